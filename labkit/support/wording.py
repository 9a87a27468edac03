"""The words for messages, Close frames and exceptions, the same in every room; and text that is safe to display."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

__all__ = [
    "alike",
    "describe_briefly",
    "describe_close",
    "describe_exception",
    "describe_message",
    "describe_seconds",
    "plain",
]

#: Longer messages are cut to so many characters or bytes.
_SHOWN = 40

#: How many members of an exception group are named.
_MEMBERS = 3


def alike(texts: Iterable[str]) -> list[str]:
    """List texts, each once, with how often it is there: ``["a task, 3 times", "a file"]``."""
    return [text if times == 1 else f"{text}, {times:,} times" for text, times in Counter(texts).items()]


def describe_message(message: str | bytes) -> tuple[str, str, int]:
    """Put a message into words.

    Args:
        message: the content of a text message, or of a binary one.

    Returns:
        The text of its event, the name of its opcode, and its length in bytes.
    """
    text = isinstance(message, str)
    length = len(message.encode("utf-8", "surrogatepass")) if isinstance(message, str) else len(message)
    shown = repr(message[:_SHOWN])
    if len(message) > _SHOWN:
        shown = f"{shown[:-1]}…{shown[-1]}"
    return shown, "TEXT" if text else "BINARY", length


def describe_seconds(seconds: float) -> str:
    """Put a length of time into words, such as ``"0.4 ms"``, ``"300 ms"`` or ``"1.0 s"``.

    Args:
        seconds: the length in seconds.

    Returns:
        The words.
    """
    if seconds >= 1:
        return f"{seconds:.1f} s"
    return f"{seconds * 1000:.0f} ms" if seconds >= 0.1 else f"{seconds * 1000:.1f} ms"


def describe_close(code: int | None, reason: str) -> str:
    """Put a Close frame into words.

    Args:
        code: its close code; None if the frame has no code.
        reason: its reason.

    Returns:
        The text of its event.
    """
    text = "Close without a code" if code is None else f"Close {int(code)}"
    return f"{text} {reason!r}" if reason else text


def describe_exception(exception: BaseException) -> str:
    """Put an exception into words: its qualified type, its message if it has one, and the members of a group."""
    kind = type(exception)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return _described(name, exception, describe_exception)


def describe_briefly(exception: BaseException) -> str:
    """The same without the modules of the types."""
    return _described(type(exception).__qualname__, exception, describe_briefly)


def _described(name: str, exception: BaseException, describe: Callable[[BaseException], str]) -> str:
    message = str(exception)
    description = f"{name}: {message}" if message else name
    if not isinstance(exception, BaseExceptionGroup):
        return description
    members = [describe(member) for member in exception.exceptions[:_MEMBERS]]
    more = len(exception.exceptions) - len(members)
    return f"{description} [{'; '.join(members)}{f'; and {more} more' if more else ''}]"


def plain(text: str) -> str:
    """Make a text safe to display: one line, without control characters.

    Args:
        text: any text.

    Returns:
        The text with white space as blanks, and other characters that cannot be printed as backslash escapes.
    """
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() else " " if c.isspace() else c.encode("unicode_escape", "backslashreplace").decode("ascii")
        for c in text
    )
