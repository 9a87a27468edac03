"""How events put messages, Close frames and exceptions into words."""

from __future__ import annotations

import pytest
from websockets.exceptions import ConnectionClosedError

from labkit.support.wording import describe_close, describe_exception, describe_message


@pytest.mark.parametrize(
    ("message", "text", "opcode", "length"),
    [
        ("hello", "'hello'", "TEXT", 5),
        (b"\x00", "b'\\x00'", "BINARY", 1),
        ("ä", "'ä'", "TEXT", 2),
        ("x" * 50, f"'{'x' * 40}…'", "TEXT", 50),
        ("\ud800", "'\\ud800'", "TEXT", 3),
    ],
)
def test_a_message(message: str | bytes, text: str, opcode: str, length: int) -> None:
    """Long ones are cut inside their quotes; the length is in bytes on the wire."""
    assert describe_message(message) == (text, opcode, length)


def test_a_close_frame() -> None:
    """With and without a code, with and without a reason."""
    assert describe_close(None, "") == "Close without a code"
    assert describe_close(1000, "bye") == "Close 1000 'bye'"


def test_an_exception() -> None:
    """The type is qualified unless it is built in, and a message is added if there is one."""
    assert describe_exception(ValueError("no")) == "ValueError: no"
    assert describe_exception(TimeoutError()) == "TimeoutError"
    assert describe_exception(ConnectionClosedError(None, None)).startswith(
        "websockets.exceptions.ConnectionClosedError: "
    )


def test_a_group_names_its_members() -> None:
    """In groups within groups too; of many the first three."""
    inner = ExceptionGroup("inner", [OSError("gone")])
    group = ExceptionGroup("unhandled errors in a TaskGroup", [ValueError("one"), inner])
    assert describe_exception(group) == (
        "ExceptionGroup: unhandled errors in a TaskGroup (2 sub-exceptions) "
        "[ValueError: one; ExceptionGroup: inner (1 sub-exception) [OSError: gone]]"
    )
    many = BaseExceptionGroup("many", [ValueError(n) for n in range(5)])
    assert describe_exception(many).endswith("[ValueError: 0; ValueError: 1; ValueError: 2; and 2 more]")
