"""How a service is broken on purpose: one function, or one value, replaced for a while."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from typing import Any

import attrs


def find(place: str) -> tuple[Any, str]:
    """Return the owner and the name of a place: ``package.module:Class.attribute``.

    Raises:
        LookupError: the code has no such place any more.
    """
    module, _, path = place.partition(":")
    owner: Any = import_module(module)
    *classes, name = path.split(".")
    for part in classes:
        owner = getattr(owner, part, None)
    if owner is None or not hasattr(owner, name):
        raise LookupError(f"there is no {place} to break")
    return owner, name


@attrs.frozen
class Mutant:
    """A place in the code, and what stands there instead."""

    place: str
    make: Callable[[Any], Any]
    """Builds the broken function from the sound one."""
    more: tuple[str, ...] = ()
    """Further places of the same thing, of modules that import it by name."""

    @contextmanager
    def alive(self) -> Iterator[None]:
        """Break the service for the block."""
        with ExitStack() as stack:
            for place in (self.place, *self.more):
                owner, name = find(place)
                sound = vars(owner)[name]
                setattr(owner, name, self.make(sound))
                stack.callback(setattr, owner, name, sound)
            yield


def value(other: Any) -> Callable[[Any], Any]:  # noqa: ANN401 - any value
    """Make what puts another value into the place of the sound one."""
    return lambda _sound: other


def getter(broken: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Make what replaces a property."""
    return lambda _sound: property(broken)
