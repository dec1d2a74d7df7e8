"""Settings, read and validated once.

Every setting is one field of ``Config`` whose metadata has its name, default, reader and
meaning: reading, error texts and the table of settings all use it.
"""

# ruff: noqa: RUF009 - calls of _setting are attrs fields, not defaults

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import attrs

from oms_trio.core.model import Limits, RewardUnit, Rules
from oms_trio.settings.environ import (
    ConfigError,
    HttpAddress,
    Reader,
    Row,
    Secret,
    SettingSpec,
    Source,
    choice,
    days,
    flag,
    folder,
    http_address,
    limit,
    number,
    or_off,
    pattern,
    pem_file,
    private_websocket,
    seconds,
    url,
    whole,
)

__all__ = ["Config", "ConfigError", "HttpAddress", "Row", "Secret"]

# These go into HTTP headers, where a line end or a letter outside ASCII would fail only later.
_OKX_SECRET: Final = pattern(
    r"[!-~]([ -~]*[!-~])?", "printable ASCII characters without spaces around them"
)
# Its length is the only protection: everybody on this machine can reach the page.
_TOKEN: Final = pattern(r"[!-~]{16,256}", "16 to 256 printable ASCII characters without spaces")
# AMQP limits names to 255 bytes, and ".expired" is added to one. Names with "amq." are the broker's.
_AMQP_NAME: Final = pattern(
    r"(?!amq\.)[!-~]{1,247}", "1 to 247 printable ASCII characters without spaces, not amq.*"
)


def _setting(
    name: str,
    default: str | None,
    reader: Reader,
    meaning: str,
    *,
    secret: bool = False,
    optional: bool = False,
    other_name: str | None = None,
) -> Any:  # noqa: ANN401 - of the type that the reader returns
    """Return a field of ``Config`` whose metadata describes the setting."""
    spec = SettingSpec(name, default, reader, meaning, secret, optional, other_name)
    return attrs.field(metadata={"setting": spec})


@attrs.frozen(kw_only=True)
class Config:
    """All settings. Times are nanoseconds; sizes and money are exact decimals; None means "off"."""

    okx_api_key: Secret | None = _setting("OKX_API_KEY", None, _OKX_SECRET, "API key", secret=True)
    okx_secret_key: Secret | None = _setting(
        "OKX_SECRET_KEY", None, _OKX_SECRET, "secret key, which signs requests", secret=True
    )
    okx_passphrase: Secret | None = _setting(
        "OKX_PASSPHRASE", None, _OKX_SECRET, "the key's passphrase", secret=True
    )
    okx_demo: bool = _setting(
        "OKX_DEMO", "0", flag, "1: demo trading, which has its own keys and hosts"
    )
    okx_ws_url: str = _setting(
        "OKX_WS_URL",
        "wss://ws.okx.com/ws/v5/private",
        private_websocket(),
        "private WebSocket; with OKX_DEMO=1 the default is wss://wspap.okx.com/ws/v5/private",
    )
    okx_rest_url: str = _setting(
        "OKX_REST_URL",
        "https://openapi.okx.com",
        url("https", "http", path=False),
        "REST API; accounts of some regions have a host of their own",
    )
    okx_ca_file: Path | None = _setting(
        "OKX_CA_FILE", None, pem_file, "CA certificates to trust instead of the system's"
    )
    rabbitmq_host: str = _setting(
        "RABBITMQ_HOST",
        "localhost",
        pattern(r"[A-Za-z0-9_.:-]{1,255}", "a host name or address"),
        "the broker's host",
    )
    rabbitmq_port: int = _setting(
        "RABBITMQ_PORT", "5672", whole(1, 65535), "the broker's port; 5671 with RABBITMQ_TLS=1"
    )
    rabbitmq_user: str = _setting(
        "RABBITMQ_USER",
        "guest",
        pattern(r".{1,255}", "1 to 255 characters"),
        "user; RABBITMQ_USERNAME is another name for it",
        other_name="RABBITMQ_USERNAME",
    )
    rabbitmq_pass: Secret = _setting(
        "RABBITMQ_PASS",
        "guest",
        pattern(r".+", "printable text"),
        "password; RABBITMQ_PASSWORD is another name for it",
        secret=True,
        other_name="RABBITMQ_PASSWORD",
    )
    rabbitmq_vhost: str = _setting(
        "RABBITMQ_VHOST", "/", pattern(r".{1,255}", "1 to 255 characters"), "virtual host"
    )
    rabbitmq_tls: bool = _setting("RABBITMQ_TLS", "0", flag, "1: TLS, with verification")
    rabbitmq_ca_file: Path | None = _setting(
        "RABBITMQ_CA_FILE", None, pem_file, "CA certificates to trust instead of the system's"
    )
    action_exchange: str = _setting(
        "OMS_ACTION_EXCHANGE", "oms", _AMQP_NAME, "exchange of the actions"
    )
    action_queue: str = _setting(
        "OMS_ACTION_QUEUE",
        "oms_action_queue",
        _AMQP_NAME,
        "queue of the actions; queues with .dead and .expired are declared too",
    )
    execution_exchange: str = _setting(
        "OMS_EXECUTION_EXCHANGE", "execution-exchange", _AMQP_NAME, "exchange of the executions"
    )
    dead_letter_exchange: str = _setting(
        "OMS_DEAD_LETTER_EXCHANGE",
        "oms.dead-letter",
        _AMQP_NAME,
        "exchange of expired and malformed actions",
    )
    prefetch: int = _setting(
        "OMS_PREFETCH",
        "64",
        whole(1, 65535),
        "actions taken before the first of them is acknowledged",
    )
    instrument: str = _setting(
        "OMS_INSTRUMENT",
        "BTC-USDT-SWAP",
        pattern(r"[A-Z0-9]{1,20}-USDT-SWAP", "a USDT-margined perpetual: XXX-USDT-SWAP"),
        "the instrument that is traded",
    )
    leverage: Decimal = _setting(
        "OMS_LEVERAGE", "100", number("1", "125"), "leverage, cross margin"
    )
    min_contracts: Decimal = _setting(
        "OMS_MIN_CONTRACTS",
        "0.1",
        number("0", "1000000", above_low=True),
        "smallest order, and the step of sizes: a multiple of the instrument's lot",
    )
    max_margin_fraction: Decimal = _setting(
        "OMS_MAX_MARGIN_FRACTION",
        "0.2",
        number("0", "1", above_low=True),
        "part of the balance that may be used as margin of the position",
    )
    max_open_orders: int = _setting(
        "OMS_MAX_OPEN_ORDERS",
        "300",
        whole(1, 500),
        "with more open orders the oldest are cancelled",
    )
    max_order_age_ns: int | None = _setting(
        "OMS_MAX_ORDER_AGE",
        "0",
        or_off(seconds("0.1", "2592000")),
        "seconds; older open orders are cancelled (0: never)",
    )
    max_action_age_ns: int = _setting(
        "OMS_MAX_ACTION_AGE",
        "5",
        seconds("0.1", "3600"),
        "seconds; older actions are rejected; also the message TTL of the queue",
    )
    max_retries: int = _setting(
        "OMS_MAX_RETRIES",
        "50",
        whole(1, 1_000_000),
        "connection attempts in a row before the service exits with 1",
    )
    reward_unit: RewardUnit = _setting(
        "OMS_REWARD_UNIT",
        RewardUnit.USDT.value,
        choice({unit.value: unit for unit in RewardUnit}),
        "rewards in USDT, as return on the entry value, or as return on the margin in percent",
    )
    reward_net: bool = _setting(
        "OMS_REWARD_NET", "0", flag, "1: rewards are net of the trade's fees and funding"
    )
    action_layout: str = _setting(
        "OMS_ACTION_LAYOUT",
        "25",
        choice({layout: layout for layout in ("25", "23", "both")}),
        "bytes of an action: 25, 23, or both layouts, distinguished by their length",
    )
    order_tag: str = _setting(
        "OMS_ORDER_TAG",
        "omstrio",
        pattern(r"[A-Za-z0-9]{1,16}", "1 to 16 letters and digits"),
        "tag of our orders; orders without it are never touched",
    )
    max_order_contracts: Decimal | None = _setting(
        "OMS_MAX_ORDER_CONTRACTS",
        "0",
        limit("1000000000"),
        "a larger order is rejected (margin_cap)",
    )
    max_orders_per_second: int | None = _setting(
        "OMS_MAX_ORDERS_PER_SECOND",
        "0",
        or_off(whole(1, 60), "no limit"),
        "more are rejected (rate_limited); the exchange allows 60 in two seconds",
    )
    price_collar: Decimal | None = _setting(
        "OMS_PRICE_COLLAR",
        "0.02",
        limit("1", below_high=True, unit=", as a part of the mark price"),
        "largest difference of an order's price to the mark price, as a part of it; 0: off",
    )
    max_daily_loss: Decimal | None = _setting(
        "OMS_MAX_DAILY_LOSS",
        "0",
        limit("1000000000", unit=" USDT"),
        "loss in USDT within a UTC day that pauses trading",
    )
    max_drawdown: Decimal | None = _setting(
        "OMS_MAX_DRAWDOWN",
        "0",
        limit("10", unit=", as a part of the margin"),
        "unrealised loss, as a part of the margin, that pauses trading",
    )
    max_rejects: int | None = _setting(
        "OMS_MAX_REJECTS",
        "0",
        or_off(whole(1, 1000), "no limit"),
        "orders rejected by the exchange in a row that pause trading",
    )
    state_dir: Path = _setting(
        "OMS_STATE_DIR",
        None,
        folder,
        "folder of the journal; by default STATE_DIRECTORY or the user's state folder",
    )
    journal_keep_ns: int | None = _setting(
        "OMS_JOURNAL_DAYS",
        "30",
        or_off(days("1", "36500"), "keep all"),
        "days that records are kept, for replay and to detect repeated actions (0: all)",
    )
    one_cpu: bool = _setting(
        "OMS_ONE_CPU", "1", flag, "0: the threads of the service may use several processors"
    )
    http: HttpAddress | None = _setting(
        "OMS_HTTP", "127.0.0.1:9464", http_address, "address of the status page and metrics, or off"
    )
    http_token: Secret | None = _setting(
        "OMS_HTTP_TOKEN",
        None,
        _TOKEN,
        "enables the commands of oms-trio ctl on the status page, which is read-only without it",
        secret=True,
        optional=True,
    )
    dead_man_s: int | None = _setting(
        "OMS_DEAD_MAN",
        "0",
        or_off(whole(10, 120)),  # the exchange's limits
        "seconds without the service after which the exchange cancels our orders; 0: off",
    )
    log: str = _setting(
        "OMS_LOG",
        "console",
        choice({"console": "console", "json": "json"}),
        "log lines for people, or JSON for machines",
    )
    log_level: str = _setting(
        "OMS_LOG_LEVEL",
        "info",
        choice({level: level for level in ("debug", "info", "warning", "error")}),
        "lowest level that is logged",
    )
    rows: tuple[Row, ...] = attrs.field(repr=False, eq=False)

    @classmethod
    def from_environ(
        cls,
        environ: Mapping[str, str],
        credentials_dir: Path | None = None,
        *,
        require_credentials: bool = False,
    ) -> Config:
        """Read all settings.

        A secret may also come from the file that ``<NAME>_FILE`` names, or from a systemd
        credential of its name (any case) in ``credentials_dir``, by default
        ``$CREDENTIALS_DIRECTORY``.

        Raises:
            ConfigError: names every problem found, including absent OKX secrets when
                ``require_credentials`` is set.
        """
        if credentials_dir is None and environ.get("CREDENTIALS_DIRECTORY"):
            credentials_dir = Path(environ["CREDENTIALS_DIRECTORY"])
        source = Source(environ, credentials_dir)
        defaults = _derived_defaults(environ)
        values = {
            field: source.value(attrs.evolve(setting, default=defaults.get(field, setting.default)))
            for field, setting in _SETTINGS.items()
        }
        source.reject_unknown(("OMS_", "OKX_", "RABBITMQ_"), _known_names())
        if require_credentials:
            source.problems += map(_not_set, source.absent_secrets)
        source.problems += _contradictions(values)
        if source.problems:
            raise ConfigError(tuple(source.problems))
        return cls(**values, rows=tuple(source.rows))

    @property
    def dead_letter_queue(self) -> str:
        """The queue of dead letters."""
        return f"{self.action_queue}.dead"

    def rules(self) -> Rules:
        """Return the settings that the core needs."""
        return Rules(
            leverage=self.leverage,
            step=self.min_contracts,
            max_margin_fraction=self.max_margin_fraction,
            max_open_orders=self.max_open_orders,
            max_order_age_ns=self.max_order_age_ns,
            max_action_age_ns=self.max_action_age_ns,
            reward_unit=self.reward_unit,
            tag=self.order_tag,
            reward_net=self.reward_net,
            limits=Limits(
                max_order_contracts=self.max_order_contracts,
                max_orders_per_second=self.max_orders_per_second,
                price_collar=self.price_collar,
                max_daily_loss=self.max_daily_loss,
                max_drawdown=None if self.max_drawdown is None else float(self.max_drawdown),
                max_rejects=self.max_rejects,
            ),
        )

    def okx_secrets(self) -> tuple[Secret, Secret, Secret]:
        """Return API key, secret key and passphrase.

        Raises:
            ConfigError: names those that are not set.
        """
        key, secret, passphrase = self.okx_api_key, self.okx_secret_key, self.okx_passphrase
        if key is None or secret is None or passphrase is None:
            raise ConfigError(
                tuple(
                    _not_set(_SETTINGS[field].name)
                    for field in ("okx_api_key", "okx_secret_key", "okx_passphrase")
                    if getattr(self, field) is None
                )
            )
        return key, secret, passphrase

    def secrets(self) -> tuple[str, ...]:
        """Return every secret that was set, for logs to mask; a default is not a secret."""
        return tuple(
            value.reveal()
            for field, setting in _SETTINGS.items()
            if isinstance(value := getattr(self, field), Secret)
            and value.reveal() != setting.default
        )

    def table(self) -> tuple[Row, ...]:
        """Return one row for each setting, with secrets masked."""
        return self.rows


_SETTINGS: Final[Mapping[str, SettingSpec]] = {
    field.name: field.metadata["setting"]
    for field in attrs.fields(Config)
    if "setting" in field.metadata
}


def _known_names() -> Iterator[str]:
    for setting in _SETTINGS.values():
        yield from setting.names


def _not_set(name: str) -> str:
    return f"{name} is not set: set it or {name}_FILE"


def _contradictions(values: Mapping[str, Any]) -> Iterator[str]:
    """Return problems between settings that are valid by themselves; absent ones are None."""
    dead_letters = values["dead_letter_exchange"]
    for field in ("action_exchange", "execution_exchange"):
        # Otherwise dead letters would come back as actions, or executions would be dead letters.
        if dead_letters is not None and dead_letters == values[field]:
            yield f"OMS_DEAD_LETTER_EXCHANGE and {_SETTINGS[field].name} are both {dead_letters}: they must differ"
    most, least = values["max_order_contracts"], values["min_contracts"]
    if most is not None and least is not None and most < least:
        yield (
            f"OMS_MAX_ORDER_CONTRACTS={most} is below OMS_MIN_CONTRACTS={least}: "
            "every order would be rejected"
        )
    drawdown, fraction = values["max_drawdown"], values["max_margin_fraction"]
    if drawdown is not None and fraction is not None and drawdown * fraction >= 1:
        yield (
            f"OMS_MAX_DRAWDOWN={drawdown} would never trip: with OMS_MAX_MARGIN_FRACTION={fraction}"
            f" the balance is lost first; set it below {1 / fraction:.4g} (0.5 is half the margin)"
        )
    if values["okx_ws_url"] is not None and values["okx_demo"] is not None:
        host = urlsplit(values["okx_ws_url"]).hostname or ""
        of_demo = host.partition(".")[0].endswith("pap")
        if host.endswith(".okx.com") and of_demo is not values["okx_demo"]:
            yield (
                f"the host of OKX_WS_URL, {host}, is for {'demo' if of_demo else 'live'} trading:"
                f" set OKX_DEMO={int(of_demo)}, or use another host"
            )


def _derived_defaults(environ: Mapping[str, str]) -> dict[str, str]:
    """Return, by field, the defaults that depend on other variables."""
    derived = {"state_dir": str(_default_state_dir(environ))}
    if environ.get("OKX_DEMO") == "1":
        derived["okx_ws_url"] = "wss://wspap.okx.com/ws/v5/private"
    if environ.get("RABBITMQ_TLS") == "1":
        derived["rabbitmq_port"] = "5671"
    return derived


def _default_state_dir(environ: Mapping[str, str]) -> Path:
    """Return the state folder that systemd sets for the unit, else the user's by the XDG rules."""
    # systemd separates several folders with colons; ours is the first.
    if of_unit := environ.get("STATE_DIRECTORY", "").split(":")[0]:
        return Path(of_unit)
    of_user = Path(environ.get("XDG_STATE_HOME", ""))
    if not of_user.is_absolute():  # the XDG rules: ignore it then
        home = environ.get("HOME")
        of_user = (Path(home) if home else Path.home()) / ".local" / "state"
    return of_user / "oms-trio"
