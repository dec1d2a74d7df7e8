"""Account endpoints: configuration, leverage, balance, position."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

from oms_trio.sim.admission import Refused, check_inst_id
from oms_trio.sim.pushes import JsonObject, account_push, position_push
from oms_trio.sim.rest_call import Call, ok
from oms_trio.sim.rest_objects import config_object, lever_object


def config(call: Call) -> JsonObject:
    """``GET /account/config``."""
    return ok(config_object(call.exchange.account, call.exchange.pos_mode))


def set_position_mode(call: Call) -> JsonObject:
    """``POST /account/set-position-mode``."""
    pos_mode = str(call.single.get("posMode", ""))
    call.exchange.set_pos_mode(pos_mode)
    return ok({"posMode": pos_mode})


def set_leverage(call: Call) -> JsonObject:
    """``POST /account/set-leverage``, cross margin only."""
    check_inst_id(call.single, call.exchange.instrument)
    if call.single.get("mgnMode") != "cross":
        raise Refused("51000", "Parameter mgnMode error")
    try:
        lever = Decimal(str(call.single.get("lever", "")))
    except InvalidOperation:
        raise Refused("51000", "Parameter lever error") from None
    if not lever.is_finite():
        raise Refused("51000", "Parameter lever error")
    call.exchange.set_lever(lever)
    return ok(lever_object(call.exchange.instrument, lever))


def leverage_info(call: Call) -> JsonObject:
    """``GET /account/leverage-info``."""
    call.need_instrument()
    return ok(lever_object(call.exchange.instrument, call.exchange.engine.ledger.lever))


def balance(call: Call) -> JsonObject:
    """``GET /account/balance``: the account push's object, with one key named otherwise."""
    engine = call.exchange.engine
    account = account_push(engine.account_view(), engine.now_ms)
    wanted = call.query.get("ccy", "")
    details = account["details"]
    assert isinstance(details, list)
    account["details"] = [
        {"maxSpotInUse" if key == "maxSpotInUseAmt" else key: value for key, value in row.items()}
        for row in details
        if not wanted or row["ccy"] in wanted.split(",")
    ]
    return ok(account)


def positions(call: Call) -> JsonObject:
    """``GET /account/positions``: a closed position shows, with 0, when its instrument is named."""
    engine = call.exchange.engine
    view = engine.position_view()
    is_told = view is not None and (view.position.pos or call.query.get("instId"))
    wanted_id = call.query.get("posId", "")
    if view is None or not is_told or not call.covers_instrument():
        return ok()
    if wanted_id and view.position.pos_id not in wanted_id.split(","):
        return ok()
    row = position_push(view, engine.instrument, engine.now_ms)
    del row["pTime"]
    return ok(row)
