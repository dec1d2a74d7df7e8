"""One REST call as an endpoint gets it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs

from oms_trio.testing.okx_server.exchange import SimulatedExchange
from oms_trio.testing.okx_server.matching.engine import MatchingEngine
from oms_trio.testing.okx_server.orders.request_checks import Args, RequestRejected, check_inst_id
from oms_trio.testing.okx_server.values import JsonObject


@attrs.frozen
class RestCall:
    """The exchange and the request."""

    exchange: SimulatedExchange
    query: Mapping[str, str]
    body: Args | Sequence[Args]
    path: str = ""
    exp_time: str | None = None

    @property
    def state(self) -> MatchingEngine:
        """The state to read: the present one, or an earlier one while REST lags."""
        return self.exchange.rest_view(self.path)

    @property
    def single(self) -> Args:
        """The body as one object.

        Raises:
            RequestRejected: it is a list.
        """
        if not isinstance(self.body, Mapping):
            raise RequestRejected("50002", "JSON syntax error")
        return self.body

    @property
    def batch(self) -> Sequence[Args]:
        """The body as a list.

        Raises:
            RequestRejected: it is one object.
        """
        if isinstance(self.body, Mapping):
            raise RequestRejected("50002", "JSON syntax error")
        return self.body

    def need_instrument(self) -> None:
        """Check that the query names the exchange's instrument."""
        check_inst_id(self.query, self.exchange.instrument)

    def need(self, *names: str) -> None:
        """Check that the query has these parameters.

        Raises:
            RequestRejected: 50014 for the first one that is missing.
        """
        for name in names:
            if not self.query.get(name):
                raise RequestRejected("50014", f"Parameter {name} can not be empty.")

    def covers_instrument(self) -> bool:
        """Whether the query's filters, all optional, include the instrument."""
        inst_id = self.exchange.instrument.inst_id
        return (
            self.query.get("instType", "SWAP") in {"", "SWAP", "ANY"}
            and self.query.get("instFamily", inst_id.removesuffix("-SWAP"))
            in {"", inst_id.removesuffix("-SWAP")}
            and (not self.query.get("instId") or inst_id in self.query["instId"].split(","))
        )


def ok(*data: JsonObject) -> JsonObject:
    """Return a successful answer."""
    return {"code": "0", "msg": "", "data": list(data)}
