"""One REST call as an endpoint sees it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs

from oms_trio.testing.okx_server.engine import Engine
from oms_trio.testing.okx_server.exchange import Exchange
from oms_trio.testing.okx_server.orders.admission import Args, Refused, check_inst_id
from oms_trio.testing.okx_server.ws.pushes import JsonObject


@attrs.frozen
class Call:
    """The exchange, and what the client sent."""

    exchange: Exchange
    query: Mapping[str, str]
    body: Args | Sequence[Args]
    path: str = ""
    exp_time: str | None = None

    @property
    def seen(self) -> Engine:
        """The engine as this read sees it: the present, or the past while REST lags."""
        return self.exchange.reading(self.path)

    @property
    def single(self) -> Args:
        """The body where one object is wanted.

        Raises:
            Refused: it is a list.
        """
        if not isinstance(self.body, Mapping):
            raise Refused("50002", "JSON syntax error")
        return self.body

    @property
    def batch(self) -> Sequence[Args]:
        """The body where a list is wanted.

        Raises:
            Refused: it is one object.
        """
        if isinstance(self.body, Mapping):
            raise Refused("50002", "JSON syntax error")
        return self.body

    def need_instrument(self) -> None:
        """Check that the query names our instrument."""
        check_inst_id(self.query, self.exchange.instrument)

    def need(self, *names: str) -> None:
        """Check that the query has these parameters.

        Raises:
            Refused: 50014 for the first one that is missing.
        """
        for name in names:
            if not self.query.get(name):
                raise Refused("50014", f"Parameter {name} can not be empty.")

    def covers_instrument(self) -> bool:
        """Whether the query's filters, all optional, let our instrument through."""
        inst_id = self.exchange.instrument.inst_id
        return (
            self.query.get("instType", "SWAP") in {"", "SWAP", "ANY"}
            and self.query.get("instFamily", inst_id.removesuffix("-SWAP"))
            in {"", inst_id.removesuffix("-SWAP")}
            and (not self.query.get("instId") or inst_id in self.query["instId"].split(","))
        )


def ok(*data: JsonObject) -> JsonObject:
    """Return the envelope of an answer without trouble."""
    return {"code": "0", "msg": "", "data": list(data)}
