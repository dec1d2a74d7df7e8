"""The events that the source can log, with their levels, read from the source itself."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import oms_trio

LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}


def events_of_the_source() -> dict[str, set[str]]:
    """Event names with the levels at which they are logged."""
    found: dict[str, set[str]] = {}
    package = Path(oms_trio.__file__).parent
    simulation = package / "testing/simulation"  # not in the wheel
    for file in package.rglob("*.py"):
        if simulation in file.parents:
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and node.args:
                for level in _levels(node):
                    for name in _names(node.args[0]):
                        found.setdefault(name, set()).add(level)
    return found


def _levels(call: ast.Call) -> Iterator[str]:
    match call.func:
        case ast.Attribute(value=ast.Name(id="log") | ast.Attribute(attr="_log"), attr=level) if (
            level in LEVELS
        ):
            yield "error" if level == "exception" else level
        case ast.Attribute(value=ast.Call(func=ast.Attribute(attr="get_logger")), attr=level):
            yield level
        case ast.Name(id="Alert"):
            calm = any(
                keyword.arg == "urgent"
                and isinstance(keyword.value, ast.Constant)
                and keyword.value.value is False
                for keyword in call.keywords
            )
            yield "warning" if calm else "error"
        case _:
            pass


def _names(argument: ast.expr) -> Iterator[str]:
    match argument:
        case ast.Constant(value=str(name)):
            yield name
        case ast.IfExp(body=body, orelse=orelse):
            yield from _names(body)
            yield from _names(orelse)
        case _:
            pass
