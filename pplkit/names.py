"""Whether the names that a handler was given are the program's: a misspelt one is never silent.

A handler that was given names keeps a `Names`. Statements cross their names off as they come by; at
the end of a run that went well, what is left is told, once. When nothing is left, or all is told,
no statement pays any more.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from . import errors

if TYPE_CHECKING:
    from .effects import Message


class Names:
    """The names that a handler was given, and what has come by since.

    Args:
        handler: as the user calls it.
        names: those that it was given.
        acts_on: whether the handler does anything with a statement.
        met_if_hidden: whether a name counts as met when a handler further in hides it.
    """

    def __init__(
        self,
        handler: str,
        names: Iterable[str],
        acts_on: Callable[[Message], bool],
        met_if_hidden: bool = False,
    ):
        self.handler, self.acts_on, self.met_if_hidden = handler, acts_on, met_if_hidden
        self.where = errors.user_frame()
        self.names = list(names)
        self._begin()

    def _begin(self) -> None:
        self.unmet = dict.fromkeys(self.names)
        self.open = bool(self.unmet)  # whether statements are still of interest
        self.seen: dict[str, Message] = {}
        self.hidden: dict[str, str] = {}

    def fresh(self) -> Names:
        """The same names, none of them met: for another program."""
        twin = object.__new__(Names)
        twin.__dict__.update(self.__dict__)
        twin._begin()
        return twin

    def note(self, msg: Message) -> None:
        """A statement comes by."""
        if msg.name not in self.unmet:
            self.seen.setdefault(msg.name, _without_value(msg))
        elif self.acts_on(msg):
            self._cross_off(msg.name)
        else:
            self.seen[msg.name] = _without_value(msg)

    def hide(self, msg: Message, handler: Any) -> None:
        """A statement would have come by, had not a handler further in hidden it."""
        if not self.open:
            return
        self.hidden[msg.name] = type(handler).__name__
        if self.met_if_hidden:
            self._cross_off(msg.name)

    def _cross_off(self, name: str) -> None:
        self.unmet.pop(name, None)
        self.open = bool(self.unmet)

    def tell(self) -> None:
        """Warn of each name that no statement has had."""
        unmet, seen, hidden = list(self.unmet), self.seen, self.hidden
        known = [*seen, *(name for name in self.names if name not in self.unmet)]
        self.unmet, self.open, self.seen, self.hidden = {}, False, {}, {}
        for name in unmet:
            if name in seen:
                errors.warn(errors.name_of_another_kind(self.handler, seen[name], self.where))
            elif name in hidden:
                by = hidden[name]
                errors.warn(errors.name_hidden(self.handler, name, by, self.where))
            else:
                errors.warn(errors.name_unknown(self.handler, name, known, self.where))


def _without_value(msg: Message) -> Message:
    """What is told of a statement: neither its value nor its distribution is kept alive."""
    return type(msg)(msg.type, msg.name, None, is_observed=msg.is_observed, where=msg.where)


def given_names(
    handler: Any, names: Iterable[str], acts_on, met_if_hidden: bool = False
) -> Names | None:
    """The names that a user gave a handler; None if the engine itself made the handler."""
    caller = sys._getframe(2)  # who called the handler's class, by way of its metaclass
    if caller.f_code is getattr(type(type(handler)).__call__, "__code__", None):
        caller = caller.f_back
    if errors.is_engine(caller.f_code.co_filename):
        return None
    return Names(type(handler).__name__, names, acts_on, met_if_hidden)
