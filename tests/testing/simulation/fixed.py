"""The seeds that every test run simulates, for hours of this length."""

from __future__ import annotations

SEEDS = range(10, 14)
HOURS = 0.25
