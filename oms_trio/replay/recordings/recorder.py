"""Record the frames of a session without trading: for fixtures, and to replay later."""

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
from oms_trio.replay.recordings.json_lines import write_frame, write_session
from oms_trio.replay.recordings.recording import RecordingError
from oms_trio.service.runtime import connector, open_rest
from oms_trio.settings.clock import Clock, system_clock
from oms_trio.settings.config import Config

log = structlog.get_logger()

PAUSE_FIRST_S: Final = 0.5
PAUSE_MOST_S: Final = 30.0

WriteLine = Callable[[bytes], object]


class RecordedSession(OkxSession):
    """A session that records what it receives and sends, except its own login and all secrets."""

    def __init__(self, key: Credentials, inst_id: str, clock: Clock, write: WriteLine) -> None:
        super().__init__(key, inst_id)
        # The exchange repeats a request that it rejects, with everything in it.
        secrets = (key.secret_key, key.passphrase, key.api_key)
        self._secrets = {*secrets, *(json.dumps(secret)[1:-1] for secret in secrets)}
        self._clock = clock
        self._write = write

    def timeout(self, now: float) -> tuple[Send, ...]:
        """Do what is due by now, and record the ping."""
        sent = super().timeout(now)
        self._record_sent(sent)
        return sent

    def receive(self, text: str | bytes, now: float) -> tuple[Send | Event, ...]:
        """Record a frame and process it."""
        self._record(text if isinstance(text, str) else text.decode(errors="replace"), out=False)
        outputs = super().receive(text, now)
        self._record_sent(outputs)
        return outputs

    def _record_sent(self, outputs: tuple[Send | Event, ...]) -> None:
        for output in outputs:
            if isinstance(output, Send):
                self._record(output.text, out=True)

    def _record(self, text: str, *, out: bool) -> None:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        self._write(write_frame(self._clock(), text, out=out))


async def record_frames(
    config: Config, path: Path, seconds: float | None, clock: Clock = system_clock
) -> None:
    """Record until ``seconds`` have passed, or until SIGTERM or Ctrl-C.

    Raises:
        RecordingError: the file exists already, or cannot be written.
        LoginRejectedError: the credentials are rejected for good.
    """
    with _new_file(path) as write:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_stop_on_signal, nursery.cancel_scope)
            with trio.move_on_after(float("inf") if seconds is None else seconds):
                await _record_sessions(config, clock, write)
            nursery.cancel_scope.cancel()


async def _record_sessions(config: Config, clock: Clock, write: WriteLine) -> None:
    """Record one session after the other until cancelled."""
    pause = PAUSE_FIRST_S

    def make_session(key: Credentials, inst_id: str) -> OkxSession:
        return RecordedSession(key, inst_id, clock, write)

    async with open_rest(config, clock) as rest:
        connect = connector(config, rest, clock, make_session)
        while True:
            try:
                await rest.measure_offset()
                async with connect() as connection:
                    async for received in connection:
                        if isinstance(received.event, Ready):
                            pause = PAUSE_FIRST_S
                            write(write_session(clock(), None))
                            log.info("recording", conn_id=received.event.conn_id)
            except LoginRejectedError:
                raise
            except (SessionError, ProtocolError, RestUnavailableError) as error:
                write(write_session(clock(), str(error)))
                log.warning("okx_session_lost", why=str(error), retry_in_s=pause)
            await trio.sleep(pause)
            pause = min(PAUSE_MOST_S, pause * 2)


@contextmanager
def _new_file(path: Path) -> Iterator[WriteLine]:
    """Create the file; an existing recording is never overwritten."""
    try:
        raw = path.open("xb", buffering=0)
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else str(error)
        raise RecordingError(f"{path}: {why}") from None
    with raw:
        if path.suffix == ".gz":
            with gzip.open(raw, "wb") as archive:
                yield archive.write
        else:
            yield raw.write


async def _stop_on_signal(scope: trio.CancelScope) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for number in signals:
            log.info("stopping", signal=signal.Signals(number).name)
            scope.cancel()
