"""Reading settings from an environment: readers, secrets, and problems told all at once."""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, TypeVar, final
from urllib.parse import urlsplit

import attrs

T = TypeVar("T")

_NS: Final = 1_000_000_000
_LONGEST_SECRET: Final = 4096  # a secret is a few dozen characters: more is the wrong file
_LONGEST_SHOWN: Final = 80


class ConfigError(Exception):
    """The settings cannot be used; ``problems`` holds one line for each thing to change."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@final
class Secret:
    """A value that no log, repr, traceback or dump of fields shows.

    Not an attrs class on purpose: ``attrs.asdict`` would look inside.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the value, for the one line of code that sends or signs with it."""
        return self._value

    def __repr__(self) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        return self._value == other._value if isinstance(other, Secret) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> str:
        raise TypeError("a secret is not written anywhere")


@attrs.frozen
class HttpAddress:
    """Where the status page listens; port 0 is any free port."""

    host: str
    port: int


@attrs.frozen
class Reader:
    """Turns text into a value (``ValueError`` when it cannot), and says what it accepts."""

    read: Callable[[str], Any]
    accepts: str


@attrs.frozen
class Setting:
    """What a setting is called outside, and how it is read.

    A default of None means that the setting may be absent. A secret may also come from a file
    or from a systemd credential.
    """

    name: str
    default: str | None
    reader: Reader
    meaning: str
    secret: bool = False
    optional: bool = False
    """A secret that nobody needs in order to trade."""


@attrs.frozen
class Row:
    """One line of the settings table; ``source`` says where the value came from."""

    name: str
    value: str
    source: str
    meaning: str


def _require(condition: object) -> None:
    if not condition:
        raise ValueError


def number(low: str, high: str | None = None, *, above_low: bool = False) -> Reader:
    """Read exact decimals in plain notation: no sign, exponent, underscore, NaN or infinity."""
    lowest, highest = Decimal(low), None if high is None else Decimal(high)

    def read(text: str) -> Decimal:
        _require(re.fullmatch(r"[0-9]{1,18}(\.[0-9]{1,18})?", text))
        value = Decimal(text)
        _require(value > lowest if above_low else value >= lowest)
        _require(highest is None or value <= highest)
        return value

    lower = f"above {low}" if above_low else f"at least {low}"
    return Reader(read, f"a number {lower}" + ("" if high is None else f", at most {high}"))


def whole(low: int, high: int | None = None) -> Reader:
    """Read whole numbers."""
    decimals = number(str(low), None if high is None else str(high))

    def read(text: str) -> int:
        _require("." not in text)
        return int(decimals.read(text))

    return Reader(read, decimals.accepts.replace("a number", "a whole number"))


def limit(high: str | None = None, *, whole_only: bool = False) -> Reader:
    """Read a limit: an exact number above 0, or None where 0 means that there is none."""
    decimals = whole(0) if whole_only else number("0", high)

    def read(text: str) -> Decimal | int | None:
        value = decimals.read(text)
        return None if value == 0 else value

    return Reader(read, f"{decimals.accepts} (0: no limit)")


def seconds(low: str, high: str | None = None, *, zero_is_off: bool = False) -> Reader:
    """Read seconds as whole nanoseconds, or as None where 0 switches something off."""
    decimals = number(low, high)

    def read(text: str) -> int | None:
        value = int(decimals.read(text) * _NS)
        return None if zero_is_off and value == 0 else value

    accepts = decimals.accepts.replace("a number", "seconds,")
    return Reader(read, accepts + (" (0: off)" if zero_is_off else ""))


def dead_man() -> Reader:
    """Read whole seconds for the exchange's cancel-all-after, or None where 0 leaves it off."""
    whole_seconds = whole(0, 120)

    def read(text: str) -> int | None:
        value: int = whole_seconds.read(text)
        _require(value == 0 or value >= 10)  # the exchange takes no less
        return value or None

    return Reader(read, "whole seconds, 10 to 120 (0: off)")


def days() -> Reader:
    """Read days as whole nanoseconds, or None where 0 means for ever."""
    decimals = number("0")

    def read(text: str) -> int | None:
        return int(decimals.read(text) * 86_400 * _NS) or None

    return Reader(read, decimals.accepts.replace("a number", "days,"))


def choice(options: Mapping[str, T]) -> Reader:
    """Read one of a few words."""

    def read(text: str) -> T:
        _require(text in options)
        return options[text]

    return Reader(read, " or ".join(options))


def pattern(regex: str, accepts: str) -> Reader:
    """Read printable text that matches as a whole."""

    def read(text: str) -> str:
        _require(text.isprintable() and re.fullmatch(regex, text))
        return text

    return Reader(read, accepts)


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def url(secure: str, plain: str, *, path: bool) -> Reader:
    """Read a URL whose scheme is ``secure``, or ``plain`` when its host is this machine."""

    def read(text: str) -> str:
        # urlsplit drops tabs and line ends in silence.
        _require(text.isprintable() and " " not in text)
        parts = urlsplit(text)
        host = parts.hostname or ""
        _require(parts.scheme == secure or (parts.scheme == plain and _is_loopback(host)))
        _require(host and parts.port != 0 and not parts.fragment and "@" not in parts.netloc)
        _require(path or (parts.path in {"", "/"} and not parts.query))
        return text if path else text.rstrip("/")

    what = "a URL" if path else "a URL without a path"
    return Reader(read, f"{what}, {secure}:// ({plain}:// for loopback only), no user in it")


def _read_pem(text: str) -> Path:
    path = Path(text)
    try:
        _require(b"-----BEGIN CERTIFICATE-----" in path.read_bytes())
    except OSError as error:
        raise ValueError from error
    return path


def _read_folder(text: str) -> Path:
    _require(text and text.isprintable())
    return Path(text)


def _read_address(text: str) -> HttpAddress | None:
    if text == "off":
        return None
    host, _, port = text.rpartition(":")
    if host.startswith("["):
        _require(host.endswith("]"))
        host = str(ipaddress.IPv6Address(host[1:-1]))
    else:
        _require(re.fullmatch(r"[A-Za-z0-9.-]+", host))
    return HttpAddress(host, whole(0, 65535).read(port))


flag: Final = choice({"0": False, "1": True})
folder: Final = Reader(_read_folder, "a folder")
pem_file: Final = Reader(_read_pem, "a readable file with PEM certificates")
http_address: Final = Reader(_read_address, "host:port, [IPv6]:port or off")


@attrs.define
class Source:
    """Looks settings up; gathers problems, the table, and the secrets that nobody gave."""

    environ: Mapping[str, str]
    credentials_dir: Path | None
    problems: list[str] = attrs.field(factory=list)
    rows: list[Row] = attrs.field(factory=list)
    absent_secrets: list[str] = attrs.field(factory=list)

    def value(self, setting: Setting) -> Any:  # noqa: ANN401 - each setting has its own type
        """Read one setting; None when it is absent, or wrong and noted as a problem."""
        try:
            text, source = self._find(setting)
        except ConfigError as error:
            self.problems += error.problems
            return None
        if text is None:
            self.rows.append(Row(setting.name, "", source, setting.meaning))
            if setting.secret and not setting.optional:
                self.absent_secrets.append(setting.name)
            return None
        # A URL that has a user in it may have a password in it: it is refused, not repeated.
        shown = "***" if setting.secret or ("://" in text and "@" in text) else text
        try:
            value = setting.reader.read(text)
        except ValueError:
            shown = repr(shown[:_LONGEST_SHOWN])
            self.problems.append(f"{setting.name} is {shown}: accepted is {setting.reader.accepts}")
            return None
        self.rows.append(Row(setting.name, shown, source, setting.meaning))
        return Secret(value) if setting.secret else value

    def refuse_unknown(self, prefix: str, names: Iterable[str]) -> None:
        """Note names with the prefix that are no settings: a typing error must not go unseen."""
        known = tuple(names)
        for name in sorted(self.environ):
            if name.startswith(prefix) and name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f"; did you mean {near[0]}?" if near else ""
                self.problems.append(f"{name} is not a setting{hint}")

    def _find(self, setting: Setting) -> tuple[str | None, str]:
        """Return a setting's text (None when absent) and where it came from."""
        if setting.secret and (path := self.environ.get(f"{setting.name}_FILE")) is not None:
            if setting.name in self.environ:
                raise ConfigError((f"{setting.name} and {setting.name}_FILE are both set",))
            return _secret_in(Path(path), f"{setting.name}_FILE"), f"file {path}"
        if (text := self.environ.get(setting.name)) is not None:
            return text, "environment"
        if setting.secret and self.credentials_dir is not None:
            for name in (setting.name, setting.name.lower()):
                if (file := self.credentials_dir / name).exists():
                    return _secret_in(file, setting.name), f"systemd credential {name}"
        return setting.default, "not set" if setting.default is None else "default"


def _secret_in(file: Path, name: str) -> str:
    """Return a secret file's text without the line end that editors add."""
    try:
        with file.open(encoding="utf-8") as opened:
            text = opened.read(_LONGEST_SECRET + 1)
    except OSError as error:
        raise ConfigError((f"{name}: cannot read {file}: {error.strerror}",)) from None
    except UnicodeDecodeError:
        # The error would carry the file's bytes, a secret, into a traceback.
        raise ConfigError((f"{name}: {file} is not a text file",)) from None
    if len(text) > _LONGEST_SECRET:
        raise ConfigError((f"{name}: {file} is longer than {_LONGEST_SECRET} characters",))
    return text.rstrip("\r\n")
