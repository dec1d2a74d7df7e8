"""Keep the frames of a session without trading: for fixtures, and to look at later."""

from __future__ import annotations

import gzip
import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import structlog
import trio

from oms_trio.okx.errors import (
    LoginRejectedError,
    ProtocolError,
    RestUnavailableError,
    SessionError,
)
from oms_trio.okx.session import Event, OkxSession, Ready, Send
from oms_trio.okx.wire.signing import Credentials
from oms_trio.replay.recordings.lines import write_frame, write_link
from oms_trio.replay.recordings.model import RecordingError
from oms_trio.service.runtime import connector, open_rest
from oms_trio.settings.clock import Clock, system_clock
from oms_trio.settings.config import Config

log = structlog.get_logger()

PAUSE_FIRST_S: Final = 0.5
PAUSE_MOST_S: Final = 30.0

Keep = Callable[[bytes], object]


class TappedSession(OkxSession):
    """A session that hands on what it hears and sends, but for the login and its secrets."""

    def __init__(self, key: Credentials, inst_id: str, clock: Clock, keep: Keep) -> None:
        super().__init__(key, inst_id)
        # The exchange repeats a request that it refuses, with all that is in it.
        secrets = (key.secret_key, key.passphrase, key.api_key)
        self._secrets = {*secrets, *(json.dumps(secret)[1:-1] for secret in secrets)}
        self._clock = clock
        self._keep = keep

    def timeout(self, now: float) -> tuple[Send, ...]:
        """Answer to the clock, and keep the ping."""
        sent = super().timeout(now)
        self._keep_sent(sent)
        return sent

    def receive(self, text: str | bytes, now: float) -> tuple[Send | Event, ...]:
        """Keep a frame and take it."""
        self._note(text if isinstance(text, str) else text.decode(errors="replace"), out=False)
        outputs = super().receive(text, now)
        self._keep_sent(outputs)
        return outputs

    def _keep_sent(self, outputs: tuple[Send | Event, ...]) -> None:
        for output in outputs:
            if isinstance(output, Send):
                self._note(output.text, out=True)

    def _note(self, text: str, *, out: bool) -> None:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        self._keep(write_frame(self._clock(), text, out=out))


async def record_frames(
    config: Config, path: Path, seconds: float | None, clock: Clock = system_clock
) -> None:
    """Record until ``seconds`` have passed, or until SIGTERM or Ctrl-C.

    Raises:
        RecordingError: the file exists already, or cannot be written.
        LoginRejectedError: the credentials are refused for good.
    """
    with _file(path) as keep:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_stop_on_signal, nursery.cancel_scope)
            with trio.move_on_after(float("inf") if seconds is None else seconds):
                await _sessions(config, clock, keep)
            nursery.cancel_scope.cancel()


async def _sessions(config: Config, clock: Clock, keep: Keep) -> None:
    """Hold one session after the other, for ever."""
    pause = PAUSE_FIRST_S

    def make_session(key: Credentials, inst_id: str) -> OkxSession:
        return TappedSession(key, inst_id, clock, keep)

    async with open_rest(config, clock) as rest:
        connect = connector(config, rest, clock, make_session)
        while True:
            try:
                await rest.measure_offset()
                async with connect() as link:
                    async for heard in link:
                        if isinstance(heard.event, Ready):
                            pause = PAUSE_FIRST_S
                            keep(write_link(clock(), None))
                            log.info("recording", conn_id=heard.event.conn_id)
            except LoginRejectedError:
                raise
            except (SessionError, ProtocolError, RestUnavailableError) as error:
                keep(write_link(clock(), str(error)))
                log.warning("okx_session_lost", why=str(error), retry_in_s=pause)
            await trio.sleep(pause)
            pause = min(PAUSE_MOST_S, pause * 2)


@contextmanager
def _file(path: Path) -> Iterator[Keep]:
    """Open the file that lines go to; a recording that is there already is never written over."""
    try:
        raw = path.open("xb", buffering=0)
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else str(error)
        raise RecordingError(f"{path}: {why}") from None
    with raw:
        if path.suffix == ".gz":
            with gzip.open(raw, "wb") as packed:
                yield packed.write
        else:
            yield raw.write


async def _stop_on_signal(scope: trio.CancelScope) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for number in signals:
            log.info("stopping", signal=signal.Signals(number).name)
            scope.cancel()
