"""How events put messages, Close frames and exceptions into words."""

from __future__ import annotations

import pytest
from websockets.exceptions import ConnectionClosedError

from labkit.wording import of_close, of_exception, of_message


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
    assert of_message(message) == (text, {"opcode": opcode, "length": length})


def test_a_close_frame() -> None:
    """With and without a code, with and without a reason."""
    assert of_close(None, "")[0] == "Close without a code"
    assert of_close(1000, "bye") == ("Close 1000 'bye'", {"code": 1000, "reason": "bye"})


def test_an_exception() -> None:
    """The type is qualified unless it is built in, and a message is added if there is one."""
    assert of_exception(ValueError("no")) == "ValueError: no"
    assert of_exception(TimeoutError()) == "TimeoutError"
    assert of_exception(ConnectionClosedError(None, None)).startswith("websockets.exceptions.ConnectionClosedError: ")
