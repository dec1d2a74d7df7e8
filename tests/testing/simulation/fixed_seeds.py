"""The seeds that every test run simulates, and for how many hours."""

from __future__ import annotations

SEEDS = range(10, 14)
HOURS = 0.25
