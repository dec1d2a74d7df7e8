"""What the whole suite shares: one broker for all of it, and no judgement by the machine's speed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import structlog
from hypothesis import settings

from tests.rabbitmq import rabbitmq_node

__all__ = ["rabbitmq_node"]


@pytest.fixture(autouse=True)
def _default_logging() -> Iterator[None]:
    """Undo what a test configured: the next one would miss events below the level of this one."""
    yield
    structlog.reset_defaults()


settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")
