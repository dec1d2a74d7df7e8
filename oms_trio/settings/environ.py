"""Reading settings from an environment: readers, secrets, and all problems in one error."""

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

from oms_trio.settings.foreign_names import is_foreign

T = TypeVar("T")

_NS: Final = 1_000_000_000
_LONGEST_SECRET: Final = 4096  # a secret is a few dozen characters: more is the wrong file
_LONGEST_SHOWN: Final = 80


class ConfigError(Exception):
    """The settings cannot be used; ``problems`` has one line for each thing to change."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@final
class Secret:
    """A value that no log, repr, traceback or dump of fields shows.

    It is not an attrs class, because ``attrs.asdict`` would reveal it.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the value, to send it or sign with it."""
        return self._value

    def __repr__(self) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        return self._value == other._value if isinstance(other, Secret) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> str:
        raise TypeError("a secret cannot be pickled")


@attrs.frozen
class HttpAddress:
    """Where the status page listens; port 0 means any free port."""

    host: str
    port: int


@attrs.frozen
class Reader:
    """Turns text into a value, or raises ``ValueError``; ``accepts`` describes valid text."""

    read: Callable[[str], Any]
    accepts: str


@attrs.frozen
class SettingSpec:
    """The name of a setting, and how it is read.

    A default of None means that the setting may be absent. A secret may also come from a file
    or from a systemd credential. ``other_name`` is the name that other programs use for it.
    """

    name: str
    default: str | None
    reader: Reader
    meaning: str
    secret: bool = False
    optional: bool = False
    """A secret that trading does not need."""
    other_name: str | None = None

    @property
    def spellings(self) -> tuple[str, ...]:
        """Its names, without the ``_FILE`` names of a secret."""
        return (self.name,) if self.other_name is None else (self.name, self.other_name)

    @property
    def names(self) -> tuple[str, ...]:
        """All its names."""
        files = tuple(f"{name}_FILE" for name in self.spellings) if self.secret else ()
        return self.spellings + files


@attrs.frozen
class Row:
    """One row of the settings table; ``source`` says where the value came from."""

    name: str
    value: str
    source: str
    meaning: str


def _require(condition: object) -> None:
    if not condition:
        raise ValueError


def number(low: str, high: str, *, above_low: bool = False, below_high: bool = False) -> Reader:
    """Read exact decimals in plain notation: no sign, exponent, underscore, NaN or infinity."""
    lowest, highest = Decimal(low), Decimal(high)

    def read(text: str) -> Decimal:
        _require(re.fullmatch(r"[0-9]{1,18}(\.[0-9]{1,18})?", text))
        value = Decimal(text)
        _require(value > lowest if above_low else value >= lowest)
        _require(value < highest if below_high else value <= highest)
        return value

    if above_low:
        accepts = f"a number above {low} and {'below' if below_high else 'at most'} {high}"
    else:
        accepts = f"a number from {low} to {high}"
    return Reader(read, accepts)


def whole(low: int, high: int) -> Reader:
    """Read whole numbers."""
    decimals = number(str(low), str(high))

    def read(text: str) -> int:
        _require("." not in text)
        return int(decimals.read(text))

    return Reader(read, decimals.accepts.replace("a number", "a whole number"))


def or_off(reader: Reader, meaning: str = "off") -> Reader:
    """Read what ``reader`` reads, and 0 as None."""

    def read(text: str) -> Any:  # noqa: ANN401 - each reader has its own type
        return None if re.fullmatch(r"0(\.0{1,18})?", text) else reader.read(text)

    return Reader(read, f"{reader.accepts} (0: {meaning})")


def limit(high: str, *, below_high: bool = False, unit: str = "") -> Reader:
    """Read a limit: an exact number above 0, and 0 as None."""
    decimals = number("0", high, above_low=True, below_high=below_high)
    return or_off(Reader(decimals.read, decimals.accepts + unit), "no limit")


def seconds(low: str, high: str) -> Reader:
    """Read seconds as whole nanoseconds."""
    return _duration("seconds", _NS, low, high)


def days(low: str, high: str) -> Reader:
    """Read days as whole nanoseconds."""
    return _duration("days", 86_400 * _NS, low, high)


def _duration(unit: str, unit_ns: int, low: str, high: str) -> Reader:
    decimals = number(low, high)

    def read(text: str) -> int:
        return int(decimals.read(text) * unit_ns)

    return Reader(read, decimals.accepts.replace("a number", f"a number of {unit}"))


def choice(options: Mapping[str, T]) -> Reader:
    """Read one of a few words."""

    def read(text: str) -> T:
        _require(text in options)
        return options[text]

    return Reader(read, " or ".join(options))


def pattern(regex: str, accepts: str) -> Reader:
    """Read printable text that matches the whole ``regex``."""

    def read(text: str) -> str:
        _require(text.isprintable() and re.fullmatch(regex, text))
        return text

    return Reader(read, accepts)


def private_websocket() -> Reader:
    """Read the URL of a private WebSocket: the public ones have no login."""
    any_websocket = url("wss", "ws", path=True)

    def read(text: str) -> str:
        address: str = any_websocket.read(text)
        _require(not urlsplit(address).path.rstrip("/").endswith(("/public", "/business")))
        return address

    return Reader(read, f"{any_websocket.accepts}, of the private WebSocket (.../ws/v5/private)")


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def url(secure: str, plain: str, *, path: bool) -> Reader:
    """Read a URL whose scheme is ``secure``, or ``plain`` when its host is loopback."""

    def read(text: str) -> str:
        # urlsplit silently drops tabs and line ends.
        _require(text.isprintable() and " " not in text)
        parts = urlsplit(text)
        host = parts.hostname or ""
        _require(parts.scheme == secure or (parts.scheme == plain and _is_loopback(host)))
        _require(host and parts.port != 0 and not parts.fragment and "@" not in parts.netloc)
        _require(path or (parts.path in {"", "/"} and not parts.query))
        return text if path else text.rstrip("/")

    what = "a URL without a user" if path else "a URL without a path or user"
    return Reader(read, f"{what}, {secure}:// ({plain}:// only for loopback)")


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
folder: Final = Reader(_read_folder, "the path of a folder")
pem_file: Final = Reader(_read_pem, "the path of a readable file with PEM certificates")
http_address: Final = Reader(_read_address, "host:port, [IPv6]:port or off")


@attrs.define
class Source:
    """Looks settings up; collects problems, the table, and the names of absent secrets."""

    environ: Mapping[str, str]
    credentials_dir: Path | None
    problems: list[str] = attrs.field(factory=list)
    rows: list[Row] = attrs.field(factory=list)
    absent_secrets: list[str] = attrs.field(factory=list)

    def value(self, setting: SettingSpec) -> Any:  # noqa: ANN401 - each setting has its own type
        """Read one setting; None when it is absent, or invalid and added to ``problems``."""
        try:
            name, text, source = self._find(setting)
        except ConfigError as error:
            self.problems += error.problems
            return None
        if text is None:
            self.rows.append(Row(setting.name, "", source, setting.meaning))
            if setting.secret and not setting.optional:
                self.absent_secrets.append(setting.name)
            return None
        # A URL with a user may contain a password, so the error does not repeat it.
        shown = "***" if setting.secret or ("://" in text and "@" in text) else text
        try:
            value = setting.reader.read(text)
        except ValueError:
            shown = repr(shown[:_LONGEST_SHOWN])
            self.problems.append(f"{name} is {shown}, but must be {setting.reader.accepts}")
            return None
        self.rows.append(Row(setting.name, shown, source, setting.meaning))
        return Secret(value) if setting.secret else value

    def reject_unknown(self, prefixes: tuple[str, ...], names: Iterable[str]) -> None:
        """Add a problem for each name with one of the prefixes that is not a setting.

        Names that other programs set are left out. Letters of any case count: ``okx_demo=1`` must
        not be ignored, as the service would trade live.
        """
        known = tuple(names)
        for name, value in sorted(self.environ.items()):
            spelt = name.upper()
            if spelt.startswith(prefixes) and name not in known and not is_foreign(name, value):
                near = difflib.get_close_matches(spelt, known, n=1)
                hint = f"; did you mean {near[0]}?" if near else ""
                self.problems.append(f"{name} is not a setting{hint}")

    def _find(self, setting: SettingSpec) -> tuple[str, str | None, str]:
        """Return the name by which a setting is given, its text (None: absent) and its source."""
        given = [
            (name, *found)
            for name in setting.spellings
            if (found := self._given(name, secret=setting.secret)) is not None
        ]
        if len({text for _, text, _ in given}) > 1:
            both = " and ".join(setting.spellings)
            raise ConfigError((f"{both} are both set, and differ: set only {setting.name}",))
        if given:
            return given[0]
        if setting.secret and self.credentials_dir is not None:
            for spelling in setting.spellings:
                for name in (spelling, spelling.lower()):
                    if (file := self.credentials_dir / name).exists():
                        text = _secret_in(file, setting.name)
                        return spelling, text, f"systemd credential {name}"
        source = "not set" if setting.default is None else "default"
        return setting.name, setting.default, source

    def _given(self, name: str, *, secret: bool) -> tuple[str, str] | None:
        """Return the value of this variable, or of the file that ``<name>_FILE`` names."""
        text = self.environ.get(name)
        if secret and (path := self.environ.get(f"{name}_FILE")) is not None:
            if text is not None:
                raise ConfigError((f"{name} and {name}_FILE are both set: set only one of them",))
            return _secret_in(Path(path), f"{name}_FILE"), f"file {path}"
        return None if text is None else (text, "environment")


def _secret_in(file: Path, name: str) -> str:
    """Return the text of a secret's file without the line end that editors add."""
    try:
        with file.open(encoding="utf-8") as opened:
            text = opened.read(_LONGEST_SECRET + 1)
    except OSError as error:
        raise ConfigError((f"{name}: cannot read {file}: {error.strerror}",)) from None
    except UnicodeDecodeError:
        # That error has the file's bytes, a secret, and would show them in a traceback.
        raise ConfigError((f"{name}: {file} is not a text file in UTF-8",)) from None
    if len(text) > _LONGEST_SECRET:
        raise ConfigError(
            (f"{name}: {file} is longer than {_LONGEST_SECRET} characters, so it is not a secret",)
        )
    return text.rstrip("\r\n")
