"""How the events of every room put messages, Close frames and exceptions into words."""

from __future__ import annotations

from typing import Any

__all__ = ["of_close", "of_exception", "of_message"]

#: Longer messages are shown cut, in characters or bytes.
_SHOWN = 40


def of_message(message: str | bytes) -> tuple[str, dict[str, Any]]:
    """Put a message into words.

    Args:
        message: the content of a text message, or of a binary one.

    Returns:
        The text of its event, and the event's data: the opcode's name and the length in bytes.
    """
    text = isinstance(message, str)
    length = len(message.encode("utf-8", "surrogatepass")) if isinstance(message, str) else len(message)
    shown = repr(message[:_SHOWN])
    if len(message) > _SHOWN:
        shown = f"{shown[:-1]}…{shown[-1]}"
    return shown, {"opcode": "TEXT" if text else "BINARY", "length": length}


def of_close(code: int | None, reason: str) -> tuple[str, dict[str, Any]]:
    """Put a Close frame into words.

    Args:
        code: its close code, or None where it has none.
        reason: its reason.

    Returns:
        The text of its event, and the event's data.
    """
    text = "Close without a code" if code is None else f"Close {int(code)}"
    return f"{text} {reason!r}" if reason else text, {"code": None if code is None else int(code), "reason": reason}


def of_exception(exception: BaseException) -> str:
    """Put an exception into words: its qualified type, and its message if it has one."""
    kind = type(exception)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    message = str(exception)
    return f"{name}: {message}" if message else name
