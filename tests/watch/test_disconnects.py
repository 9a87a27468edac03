"""What an exception that ends a handler proves of its connection, and what it does not."""

from __future__ import annotations

import types
from typing import Any

from labkit.watch.disconnects import losses, raised_on


class Connection:
    """A connection of the library `acme`."""


def acme(connection: Any, error: Exception) -> Exception:
    """Have an error raised by a function of a library named acme, with or without a `self`."""
    library = types.ModuleType("acme.connection")
    exec("def method(self, error):\n raise error\ndef function(error):\n raise error", vars(library))
    try:
        library.function(error) if connection is None else library.method(connection, error)
    except Exception as raised:
        return raised
    raise AssertionError("it raises")


def test_an_error_that_others_raise_too_counts_if_the_library_did() -> None:
    """The kind alone proves nothing, where the kind is Python's own."""
    raised = acme(None, ConnectionResetError("lost"))
    assert losses(raised, ConnectionError, "acme") == [raised]
    assert losses(ConnectionResetError("mine"), ConnectionError, "acme") == []
    assert losses(acme(None, ValueError()), ConnectionError, "acme") == []


def test_it_is_found_in_what_the_exception_came_from() -> None:
    """In its cause, its context and a group's members, each once, also where they form a circle."""
    lost = acme(None, ConnectionResetError("lost"))
    outer = ValueError("mine")
    outer.__cause__ = ExceptionGroup("mine too", [lost, KeyError()])
    outer.__context__ = lost
    lost.__context__ = outer
    assert losses(outer, ConnectionError, "acme") == [lost]


def test_it_is_found_in_each_of_them_the_outermost_first() -> None:
    """In a cause, in a context, and in a member of a group; what is deeper comes later."""
    one, two, three, four = (acme(None, ConnectionResetError(name)) for name in ("one", "two", "three", "four"))
    one.__cause__, one.__context__ = two, three
    two.__context__ = ExceptionGroup("mine", [KeyError(), four])
    assert losses(one, ConnectionError, "acme") == [one, two, three, four]


def test_whose_it_is_is_proved_by_the_way_it_took() -> None:
    """Through a method of the connection; and where there is no connection, nothing is proved."""
    ours, other = Connection(), Connection()
    raised = acme(ours, ConnectionResetError("lost"))
    assert raised_on(raised, ours, "acme")
    assert not raised_on(raised, other, "acme")
    assert not raised_on(raised, ours, "another")
    assert not raised_on(acme(None, ConnectionResetError("lost")), None, "acme")
