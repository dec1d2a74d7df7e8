"""Settings: names, defaults, bounds, sources of secrets, and the texts of errors."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path

import attrs
import pytest

from oms_trio.core.model import Limits, RewardUnit, Rules
from oms_trio.settings.config import Config, ConfigError, HttpAddress, Secret

HOME = {"HOME": "/home/agent"}
OKX = {"OKX_API_KEY": "key-1", "OKX_SECRET_KEY": "secret-2", "OKX_PASSPHRASE": "pass-3!"}


def read(environ: Mapping[str, str] | None = None) -> Config:
    return Config.from_environ(HOME | dict(environ or {}))


def problems(environ: Mapping[str, str], *, require_credentials: bool = False) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        Config.from_environ(HOME | dict(environ), require_credentials=require_credentials)
    assert str(caught.value) == "\n".join(caught.value.problems)
    return caught.value.problems


def test_defaults_are_those_of_the_contract() -> None:
    assert {row.name: row.value for row in read().table()} == {
        "OKX_API_KEY": "",
        "OKX_SECRET_KEY": "",
        "OKX_PASSPHRASE": "",
        "OKX_DEMO": "0",
        "OKX_WS_URL": "wss://ws.okx.com/ws/v5/private",
        "OKX_REST_URL": "https://openapi.okx.com",
        "OKX_CA_FILE": "",
        "RABBITMQ_HOST": "localhost",
        "RABBITMQ_PORT": "5672",
        "RABBITMQ_USER": "guest",
        "RABBITMQ_PASS": "***",
        "RABBITMQ_VHOST": "/",
        "RABBITMQ_TLS": "0",
        "RABBITMQ_CA_FILE": "",
        "OMS_ACTION_EXCHANGE": "oms",
        "OMS_ACTION_QUEUE": "oms_action_queue",
        "OMS_EXECUTION_EXCHANGE": "execution-exchange",
        "OMS_DEAD_LETTER_EXCHANGE": "oms.dead-letter",
        "OMS_PREFETCH": "64",
        "OMS_INSTRUMENT": "BTC-USDT-SWAP",
        "OMS_LEVERAGE": "100",
        "OMS_MIN_CONTRACTS": "0.1",
        "OMS_MAX_MARGIN_FRACTION": "0.2",
        "OMS_MAX_OPEN_ORDERS": "300",
        "OMS_MAX_ORDER_AGE": "0",
        "OMS_MAX_ACTION_AGE": "5",
        "OMS_MAX_RETRIES": "50",
        "OMS_REWARD_UNIT": "usdt",
        "OMS_REWARD_NET": "0",
        "OMS_ACTION_LAYOUT": "25",
        "OMS_ORDER_TAG": "omstrio",
        "OMS_MAX_ORDER_CONTRACTS": "0",
        "OMS_MAX_ORDERS_PER_SECOND": "0",
        "OMS_PRICE_COLLAR": "0.02",
        "OMS_MAX_DAILY_LOSS": "0",
        "OMS_MAX_DRAWDOWN": "0",
        "OMS_MAX_REJECTS": "0",
        "OMS_STATE_DIR": "/home/agent/.local/state/oms-trio",
        "OMS_JOURNAL_DAYS": "30",
        "OMS_ONE_CPU": "1",
        "OMS_HTTP": "127.0.0.1:9464",
        "OMS_HTTP_TOKEN": "",
        "OMS_DEAD_MAN": "0",
        "OMS_LOG": "console",
        "OMS_LOG_LEVEL": "info",
    }


def test_every_row_of_the_table_has_the_source_and_the_meaning_of_its_value() -> None:
    rows = {row.name: row for row in read({"OMS_LEVERAGE": "50"}).table()}
    assert rows["OMS_LEVERAGE"].source == "environment"
    assert rows["OMS_PREFETCH"].source == "default"
    assert rows["OKX_API_KEY"].source == "not set"
    assert all(row.meaning for row in rows.values())


def test_values_become_types() -> None:
    config = read(
        {
            "OMS_MAX_ORDER_AGE": "1.5",
            "OMS_MAX_ACTION_AGE": "0.25",
            "OMS_LEVERAGE": "12.5",
            "OMS_REWARD_UNIT": "return",
            "OMS_ACTION_QUEUE": "q",
            "OMS_HTTP": "[::1]:80",
            "OMS_STATE_DIR": "/var/lib/x",
            "RABBITMQ_PORT": "6000",
        }
    )
    assert config.dead_letter_queue == "q.dead"
    assert config.http == HttpAddress("::1", 80)
    assert config.state_dir == Path("/var/lib/x")
    assert config.rabbitmq_port == 6000
    assert config.rules() == Rules(
        leverage=Decimal("12.5"),
        step=Decimal("0.1"),
        max_margin_fraction=Decimal("0.2"),
        max_open_orders=300,
        max_order_age_ns=1_500_000_000,
        max_action_age_ns=250_000_000,
        reward_unit=RewardUnit.RETURN,
        tag="omstrio",
        limits=Limits(price_collar=Decimal("0.02")),
    )


def test_off_is_none() -> None:
    config = read({"OMS_HTTP": "off", "OMS_MAX_ORDER_AGE": "0.0", "OMS_PRICE_COLLAR": "0"})
    assert config.http is None
    assert config.max_order_age_ns is None
    assert config.rules().limits == Limits()


def test_the_reward_unit_and_the_action_layout_are_chosen_by_name() -> None:
    assert not read().rules().reward_net
    assert read().action_layout == "25"
    config = read({"OMS_REWARD_UNIT": "roe", "OMS_REWARD_NET": "1", "OMS_ACTION_LAYOUT": "both"})
    assert config.rules().reward_unit is RewardUnit.ROE
    assert config.rules().reward_net
    assert config.action_layout == "both"


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("OMS_LEVERAGE", ["1", "125", "99.5"], ["0", "0.99", "125.1", "-1", "1e2", "NaN", "१"]),
        ("OMS_MIN_CONTRACTS", ["0.01", "1"], ["0", "0.0", "-0.1", "Infinity", "1_0", "1000001"]),
        ("OMS_MAX_MARGIN_FRACTION", ["0.001", "1", "1.0"], ["0", "1.01", "20%", "+0.1"]),
        ("OMS_MAX_OPEN_ORDERS", ["1", "500"], ["0", "501", "1.5", "ten"]),
        ("OMS_MAX_ORDER_AGE", ["0", "0.5", "86400"], ["-1", "1h", "inf", "0.01", "86400000"]),
        ("OMS_MAX_ACTION_AGE", ["0.1", "3600"], ["0", "0.09", "3600.1"]),
        ("OMS_MAX_RETRIES", ["1", "100000"], ["0", "2.0"]),
        ("OMS_MAX_ORDER_CONTRACTS", ["0", "12.5"], ["-1", "many"]),
        ("OMS_MAX_ORDERS_PER_SECOND", ["0", "10", "60"], ["-1", "1.5", "61"]),
        ("OMS_PRICE_COLLAR", ["0", "0.02", "0.999"], ["1", "2", "2%", "-0.02"]),
        ("OMS_MAX_DAILY_LOSS", ["0", "250.50"], ["-250", "25%"]),
        ("OMS_MAX_DRAWDOWN", ["0", "0.5", "3"], ["-0.5", "50", "10.1"]),
        ("OMS_MAX_REJECTS", ["0", "5"], ["0.5", "1001"]),
        ("OMS_JOURNAL_DAYS", ["0", "1", "365"], ["0.001", "-1", "36501"]),
        ("OMS_DEAD_MAN", ["0", "10", "120"], ["9", "121", "30.5", "-1"]),
        ("OMS_REWARD_NET", ["0", "1"], ["yes", "net"]),
        ("OMS_ACTION_LAYOUT", ["25", "23", "both"], ["24", "25,23", "BOTH"]),
        ("OMS_PREFETCH", ["1", "65535"], ["0", "65536"]),
        ("OMS_REWARD_UNIT", ["usdt", "return", "roe"], ["USDT", "btc"]),
        ("OMS_ORDER_TAG", ["a", "A1b2c3d4e5f6g7h8"], ["", "a-b", "a" * 17, "ä"]),
        ("OMS_INSTRUMENT", ["ETH-USDT-SWAP"], ["BTC-USD-SWAP", "btc-usdt-swap", "BTC-USDT"]),
        ("OMS_ACTION_QUEUE", ["q.1"], ["", "amq.q", "a b", "q" * 251]),
        ("OMS_HTTP", ["off", "localhost:0", "[::1]:1"], ["9464", "h:", "h:65536", "::1:80", ":1"]),
        ("OMS_LOG", ["console", "json"], ["JSON", "xml"]),
        ("OMS_LOG_LEVEL", ["debug", "error"], ["trace", "INFO"]),
        ("OMS_STATE_DIR", ["/x", "rel"], [""]),
        ("OMS_ONE_CPU", ["0", "1"], ["off", "2"]),
        ("OKX_DEMO", ["0", "1"], ["true", "yes", "2"]),
        ("RABBITMQ_PORT", ["1", "65535"], ["0", "65536", "amqp"]),
        ("RABBITMQ_HOST", ["mq", "10.0.0.1", "::1"], ["", "amqp://mq", "a b"]),
        ("RABBITMQ_USER", ["u"], ["", "u\n"]),
        ("RABBITMQ_VHOST", ["/", "oms"], [""]),
        ("OKX_CA_FILE", [], ["/nonexistent.pem", "/", __file__[:-3] + "none"]),
    ],
)
def test_bounds_are_kept_and_an_error_names_the_variable_its_value_and_the_range(
    name: str, good: list[str], bad: list[str]
) -> None:
    for value in good:
        assert {row.name: row.value for row in read({name: value}).table()}[name] == value
    for value in bad:
        (problem,) = problems({name: value})
        assert problem.startswith(f"{name} is {value[:80]!r}, but must be ")


@pytest.mark.parametrize(
    ("name", "value", "accepted"),
    [
        ("OKX_WS_URL", "wss://wseea.okx.com:8443/ws/v5/private?brokerId=9999", True),
        ("OKX_WS_URL", "ws://127.0.0.1:8000/ws/v5/private", True),
        ("OKX_WS_URL", "ws://127.9.9.9/ws", True),
        ("OKX_WS_URL", "ws://[::1]:8000/ws", True),
        ("OKX_WS_URL", "ws://localhost/ws", True),
        ("OKX_WS_URL", "ws://ws.okx.com/ws/v5/private", False),
        ("OKX_WS_URL", "ws://127.0.0.1.example.com/ws", False),
        ("OKX_WS_URL", "ws://localhost.example.com/ws", False),
        ("OKX_WS_URL", "https://ws.okx.com/ws/v5/private", False),
        ("OKX_WS_URL", "wss:///ws", False),
        ("OKX_WS_URL", "wss://ws.okx.com:port/ws", False),
        ("OKX_WS_URL", "wss://ws.okx.com/w s", False),
        ("OKX_WS_URL", "wss://ws.okx\n.com/ws", False),
        ("OKX_WS_URL", "wss://[::1/ws", False),
        ("OKX_WS_URL", "wss://ws.okx.com/ws/v5/public", False),
        ("OKX_WS_URL", "wss://ws.okx.com/ws/v5/business", False),
        ("OKX_REST_URL", "https://eea.okx.com", True),
        ("OKX_REST_URL", "https://eea.okx.com/api", False),
        ("OKX_REST_URL", "http://eea.okx.com", False),
        ("OKX_REST_URL", "http://127.0.0.1:8000", True),
    ],
)
def test_only_loopback_may_be_reached_without_tls(name: str, value: str, accepted: object) -> None:
    if accepted:
        assert value in {row.value for row in read({name: value}).table()}
    else:
        assert problems({name: value})[0].startswith(name)


def test_a_slash_after_the_rest_host_is_dropped() -> None:
    assert read({"OKX_REST_URL": "https://eea.okx.com/"}).okx_rest_url == "https://eea.okx.com"


def test_a_url_with_a_password_is_rejected_and_not_repeated() -> None:
    (problem,) = problems({"OKX_REST_URL": "https://me:hunter2@eea.okx.com"})
    assert "hunter2" not in problem
    assert "OKX_REST_URL" in problem


def test_demo_trading_and_tls_change_the_defaults_that_depend_on_them() -> None:
    config = read({"OKX_DEMO": "1", "RABBITMQ_TLS": "1"})
    assert config.okx_ws_url == "wss://wspap.okx.com/ws/v5/private"
    assert config.rabbitmq_port == 5671
    ws = {"OKX_WS_URL": "wss://wseeapap.okx.com/ws/v5/private"}
    config = read({"OKX_DEMO": "1", "RABBITMQ_TLS": "1", "RABBITMQ_PORT": "5672"} | ws)
    assert (config.okx_ws_url, config.rabbitmq_port) == (ws["OKX_WS_URL"], 5672)


@pytest.mark.parametrize(
    ("environ", "folder"),
    [
        ({"STATE_DIRECTORY": "/var/lib/a:/var/lib/b"}, "/var/lib/a"),
        ({"STATE_DIRECTORY": "/var/lib/a", "OMS_STATE_DIR": "/mine"}, "/mine"),
        ({"XDG_STATE_HOME": "/xdg"}, "/xdg/oms-trio"),
        ({"XDG_STATE_HOME": "relative"}, "/home/agent/.local/state/oms-trio"),
        ({"XDG_STATE_HOME": "/xdg", "STATE_DIRECTORY": "/var/lib/a"}, "/var/lib/a"),
    ],
)
def test_the_state_folder_is_that_of_the_setting_the_unit_or_the_user(
    environ: dict[str, str], folder: str
) -> None:
    assert read(environ).state_dir == Path(folder)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("OMS_LEVERAG", "OMS_LEVERAGE"),
        ("OKX_DEM0", "OKX_DEMO"),
        ("okx_demo", "OKX_DEMO"),
        ("Oms_Max_Daily_Loss", "OMS_MAX_DAILY_LOSS"),
        ("OKX_SECRET", "OKX_SECRET_KEY"),
        ("OKX_URL_REST", "OKX_REST_URL"),
        ("RABBITMQ_HOSTS", "RABBITMQ_HOST"),
        ("RABBITMQ_USER_FILE", "RABBITMQ_USER"),
    ],
)
def test_an_unknown_name_is_an_error_with_the_nearest_known_one(name: str, meant: str) -> None:
    assert problems({name: "5"}) == (f"{name} is not a setting; did you mean {meant}?",)


def test_an_unknown_name_without_a_similar_one_is_an_error_too() -> None:
    assert problems({"OMS_ZZZZZZZZZZ": "5"}) == ("OMS_ZZZZZZZZZZ is not a setting",)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RABBITMQ_NODENAME", "rabbit@here"),
        ("RABBITMQ_HOME", "/usr/lib/rabbitmq"),
        ("RABBITMQ_CONFIG_FILE", "/etc/rabbitmq/rabbitmq.conf"),
        ("RABBITMQ_DEFAULT_PASS", "of-the-image"),
        ("RABBITMQ_SERVICE_HOST", "10.0.0.5"),
        ("RABBITMQ_SERVICE_PORT_AMQP", "5672"),
        ("OMS_TRIO_SERVICE_HOST", "10.0.0.6"),
        ("OMS_TRIO_PORT", "tcp://10.0.0.6:9464"),
        ("OMS_TRIO_PORT_9464_TCP_ADDR", "10.0.0.6"),
    ],
)
def test_variables_of_the_rabbitmq_server_and_of_containers_are_ignored(
    name: str, value: str
) -> None:
    assert read({name: value}) == read()


def test_a_port_variable_set_by_a_container_is_an_error_that_says_what_is_valid() -> None:
    """Kubernetes does it where a service is called ``rabbitmq``."""
    (problem,) = problems({"RABBITMQ_PORT": "tcp://10.0.0.5:5672"})
    assert problem.startswith("RABBITMQ_PORT is 'tcp://10.0.0.5:5672', but must be a whole number")


def test_the_brokers_user_and_password_have_two_names() -> None:
    config = read({"RABBITMQ_USERNAME": "agent", "RABBITMQ_PASSWORD": "hunter2"})
    assert (config.rabbitmq_user, config.rabbitmq_pass.reveal()) == ("agent", "hunter2")
    assert config.secrets() == ("hunter2",)
    same = {"RABBITMQ_USER": "agent", "RABBITMQ_USERNAME": "agent"}
    assert read(same).rabbitmq_user == "agent"


def test_a_password_by_its_other_name_can_come_from_a_file_or_a_credential(tmp_path: Path) -> None:
    (tmp_path / "rabbitmq_password").write_text("hunter2\n")
    assert Config.from_environ(HOME, tmp_path).rabbitmq_pass.reveal() == "hunter2"
    by_file = read({"RABBITMQ_PASSWORD_FILE": str(tmp_path / "rabbitmq_password")})
    assert by_file.rabbitmq_pass.reveal() == "hunter2"


def test_two_names_that_differ_are_an_error_that_repeats_no_password() -> None:
    found = problems(
        {
            "RABBITMQ_USER": "agent",
            "RABBITMQ_USERNAME": "guest",
            "RABBITMQ_PASS": "hunter2",
            "RABBITMQ_PASSWORD": "hunter3",
        }
    )
    assert found == (
        "RABBITMQ_USER and RABBITMQ_USERNAME are both set, and differ: set only RABBITMQ_USER",
        "RABBITMQ_PASS and RABBITMQ_PASSWORD are both set, and differ: set only RABBITMQ_PASS",
    )


def test_a_wrong_value_is_named_as_it_was_given() -> None:
    (problem,) = problems({"RABBITMQ_USERNAME": ""})
    assert problem.startswith("RABBITMQ_USERNAME is ''")


def test_a_drawdown_limit_beyond_the_whole_balance_is_an_error() -> None:
    (problem,) = problems({"OMS_MAX_DRAWDOWN": "5"})
    assert problem == (
        "OMS_MAX_DRAWDOWN=5 would never trip: with OMS_MAX_MARGIN_FRACTION=0.2 the balance is lost "
        "first; set it below 5 (0.5 is half the margin)"
    )
    read({"OMS_MAX_DRAWDOWN": "5", "OMS_MAX_MARGIN_FRACTION": "0.1"})


def test_a_largest_order_below_the_smallest_is_an_error() -> None:
    (problem,) = problems({"OMS_MAX_ORDER_CONTRACTS": "0.5", "OMS_MIN_CONTRACTS": "1"})
    assert problem.startswith("OMS_MAX_ORDER_CONTRACTS=0.5 is below OMS_MIN_CONTRACTS=1")


@pytest.mark.parametrize(
    ("demo", "host", "advice"),
    [
        ("0", "wspap.okx.com", "demo trading: set OKX_DEMO=1"),
        ("0", "wseeapap.okx.com", "demo trading: set OKX_DEMO=1"),
        ("1", "ws.okx.com", "live trading: set OKX_DEMO=0"),
    ],
)
def test_a_host_of_the_other_kind_of_trading_is_an_error(demo: str, host: str, advice: str) -> None:
    (problem,) = problems({"OKX_DEMO": demo, "OKX_WS_URL": f"wss://{host}/ws/v5/private"})
    assert advice in problem


def test_all_problems_are_in_one_error() -> None:
    found = problems({"OMS_LEVERAGE": "0", "OMS_LOG": "xml", "OMS_X": ""}, require_credentials=True)
    for name in ("OMS_LEVERAGE", "OMS_LOG", "OMS_X", *OKX):
        assert sum(problem.split()[0] == name for problem in found) == 1
    assert len(found) == 6


def test_dead_letters_must_not_mix_with_actions_or_executions() -> None:
    assert problems({"OMS_DEAD_LETTER_EXCHANGE": "oms"}) == (
        "OMS_DEAD_LETTER_EXCHANGE and OMS_ACTION_EXCHANGE are both oms: they must differ",
    )
    (problem,) = problems({"OMS_DEAD_LETTER_EXCHANGE": "execution-exchange"})
    assert problem == (
        "OMS_DEAD_LETTER_EXCHANGE and OMS_EXECUTION_EXCHANGE are both execution-exchange: "
        "they must differ"
    )


def test_okx_secrets_are_required_only_on_request() -> None:
    config = read({"OKX_API_KEY": "key-1"})
    with pytest.raises(ConfigError) as caught:
        config.okx_secrets()
    expected = (
        "OKX_SECRET_KEY is not set: set it or OKX_SECRET_KEY_FILE",
        "OKX_PASSPHRASE is not set: set it or OKX_PASSPHRASE_FILE",
    )
    assert caught.value.problems == expected
    assert problems({"OKX_API_KEY": "key-1"}, require_credentials=True) == expected


def test_secrets_come_from_the_environment() -> None:
    config = Config.from_environ(HOME | OKX, require_credentials=True)
    assert tuple(secret.reveal() for secret in config.okx_secrets()) == tuple(OKX.values())


@pytest.mark.parametrize("name", [*OKX, "RABBITMQ_PASS"])
def test_each_secret_can_come_from_a_file(name: str, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("s3cret\r\n")
    config = read({f"{name}_FILE": str(file)})
    assert config.secrets() == ("s3cret",)
    row = next(row for row in config.table() if row.name == name)
    assert (row.value, row.source) == ("***", f"file {file}")


@pytest.mark.parametrize("name", ["OKX_SECRET_KEY", "okx_secret_key"])
def test_each_secret_can_come_from_a_systemd_credential(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("s3cret")
    config = Config.from_environ(HOME, tmp_path)
    assert config.secrets() == ("s3cret",)
    assert read({"CREDENTIALS_DIRECTORY": str(tmp_path)}).secrets() == ("s3cret",)


def test_a_variable_wins_over_a_credential(tmp_path: Path) -> None:
    (tmp_path / "OKX_API_KEY").write_text("of-the-unit")
    config = Config.from_environ(HOME | {"OKX_API_KEY": "by-name"}, tmp_path)
    assert config.secrets() == ("by-name",)


@pytest.mark.parametrize(
    ("content", "why"),
    [(None, "No such file"), (b"\xff\xfe", "not a text file"), (b"s" * 5000, "longer than")],
)
def test_a_secret_file_that_cannot_be_used_is_named(
    content: bytes | None, why: str, tmp_path: Path
) -> None:
    file = tmp_path / "secret"
    if content is not None:
        file.write_bytes(content)
    (problem,) = problems({"OKX_API_KEY_FILE": str(file)})
    assert problem.startswith("OKX_API_KEY_FILE: ")
    assert why in problem
    assert str(file) in problem


def test_a_secret_given_twice_is_an_error(tmp_path: Path) -> None:
    (problem,) = problems({"OKX_API_KEY": "k", "OKX_API_KEY_FILE": str(tmp_path / "f")})
    assert problem == "OKX_API_KEY and OKX_API_KEY_FILE are both set: set only one of them"


@pytest.mark.parametrize("value", ["", " hunter2", "hunter2\n", "hünter2", "hunter\t2"])
def test_a_secret_that_no_header_can_carry_is_rejected_and_not_repeated(value: str) -> None:
    (problem,) = problems({"OKX_PASSPHRASE": value})
    assert problem.startswith("OKX_PASSPHRASE is '***', but must be ")
    assert "nter2" not in problem


def test_secrets_are_masked_wherever_a_config_is_shown() -> None:
    config = read(OKX | {"RABBITMQ_PASS": "hunter2"})
    shown = f"{config!r} {config} {attrs.asdict(config)} {config.table()} {config.rabbitmq_pass}"
    for secret in ("key-1", "secret-2", "pass-3!", "hunter2"):
        assert secret in config.secrets()
        assert secret not in shown


def test_the_default_password_is_not_masked() -> None:
    assert read().secrets() == ()
    assert read().rabbitmq_pass.reveal() == "guest"


def test_a_secret_compares_by_value_and_cannot_be_pickled() -> None:
    assert Secret("a") == Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert len({Secret("a"), Secret("a")}) == 1
    with pytest.raises(TypeError):
        pickle.dumps(Secret("a"))


def test_the_token_of_the_page_is_an_optional_secret(tmp_path: Path) -> None:
    assert not any("TOKEN" in line for line in problems({}, require_credentials=True))
    file = tmp_path / "token"
    file.write_text("0123456789abcdef\n")
    config = read({"OMS_HTTP_TOKEN_FILE": str(file)})
    assert config.secrets() == ("0123456789abcdef",)
    assert "0123456789abcdef" not in repr(config) + repr(config.table())
    assert "short" not in problems({"OMS_HTTP_TOKEN": "short"})[0].replace("OMS_HTTP_TOKEN", "")
