"""How the service is broken on purpose: one function or value is replaced for a while."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from typing import Any

import attrs


def find(place: str) -> tuple[Any, str]:
    """Return the owner and the attribute name of a place, ``package.module:Class.attribute``.

    Raises:
        LookupError: the code has no such place.
    """
    module, _, path = place.partition(":")
    owner: Any = import_module(module)
    *classes, name = path.split(".")
    for part in classes:
        owner = getattr(owner, part, None)
    if owner is None or not hasattr(owner, name):
        raise LookupError(
            f"a mutant replaces {place}, which does not exist; name what is there now"
        )
    return owner, name


@attrs.frozen
class Mutant:
    """A place in the code, and what replaces it."""

    place: str
    make: Callable[[Any], Any]
    """Makes the broken function from the original."""
    more: tuple[str, ...] = ()
    """Other names of the same function, in modules that import it by name."""

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Break the service during the block."""
        with ExitStack() as stack:
            for place in (self.place, *self.more):
                owner, name = find(place)
                sound = vars(owner)[name]
                setattr(owner, name, self.make(sound))
                stack.callback(setattr, owner, name, sound)
            yield


def value(other: Any) -> Callable[[Any], Any]:  # noqa: ANN401 - any value
    """Replace a value."""
    return lambda _sound: other


def getter(broken: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Replace a property."""
    return lambda _sound: property(broken)
