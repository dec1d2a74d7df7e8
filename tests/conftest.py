"""What the whole suite shares: one broker for all of it, and no judgement by the machine's speed."""

from __future__ import annotations

from hypothesis import settings

from tests.rabbitmq import rabbitmq_node

__all__ = ["rabbitmq_node"]

settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")
