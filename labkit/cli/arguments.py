"""Reading the arguments of the command line: a fault, a moment, a header, or an option."""

from __future__ import annotations

import ast
import re
from contextlib import suppress
from typing import Any

from labkit.errors import BadValue, UnknownName

__all__ = ["read_cookie", "read_fault", "read_header", "read_option", "read_when"]

#: The exceptions that ``ast.literal_eval`` raises, according to its documentation.
_NO_LITERAL = (MemoryError, RecursionError, SyntaxError, TypeError, ValueError)


def read_option(text: str) -> tuple[str, Any]:
    """Read ``name=value``. The value is a Python literal if it can be read as one, and otherwise text.

    Args:
        text: the argument, such as ``"ping_interval=3"``.

    Returns:
        The name and the value.

    Raises:
        BadValue: the text does not have this form.
    """
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise BadValue(f"{text!r} is not NAME=VALUE")
    try:
        return name, ast.literal_eval(value)
    except _NO_LITERAL:
        return name, value


def read_header(text: str) -> tuple[str, str]:
    """Read a header as it stands in a request.

    Args:
        text: the argument, such as ``"Authorization: Bearer abc"``.

    Returns:
        The name and the value.

    Raises:
        BadValue: the text has no colon.
    """
    name, colon, value = text.partition(":")
    if not colon:
        raise BadValue(f"{text!r} is not a header, such as 'Authorization: Bearer abc'")
    return name.strip(), value.strip()


def read_cookie(text: str) -> tuple[str, str]:
    """Read a cookie.

    Args:
        text: the argument, such as ``"session=abc"``.

    Returns:
        The name and the value.

    Raises:
        BadValue: the text has no equals sign.
    """
    name, equals, value = text.partition("=")
    if not equals:
        raise BadValue(f"{text!r} is not a cookie, such as 'session=abc'")
    return name, value


def read_when(text: str) -> Any:
    """Read a moment.

    Args:
        text: the argument: ``"through"``, ``"note: TEXT"``, a number of seconds, ``"await 7"`` or ``"frame 3"``, or
            these two as in Python, such as ``"Await(7)"``.

    Returns:
        The moment, as ``labkit.play`` takes it; a text that is none of these as it is.
    """
    from labkit import Await, Frame

    with suppress(ValueError):
        return float(text)
    moment = re.fullmatch(r"(?:labkit\.)?(await|frame)(?: +(\d+)|\((\d+)\))", text.strip(), re.IGNORECASE)
    if moment is not None:
        return (Await if moment[1].lower() == "await" else Frame)(int(moment[2] or moment[3]))
    return text


def read_fault(text: str) -> Any:
    """Read a fault as a run prints it.

    Args:
        text: the argument, such as ``"reset"``, or with knobs, such as ``"close(code=4000, reason='bye')"``.

    Returns:
        The fault; if the text has no knobs, only its name.

    Raises:
        BadValue: the text has neither of these forms.
        UnknownName: there is no such fault, or it has no such knob.
    """
    name, bracket, _ = text.partition("(")
    if not bracket:
        return text
    from labkit.faults.fault import find_fault

    fault = find_fault(name)
    try:
        call = ast.parse(f"fault{text.removeprefix(name)}", mode="eval").body
        assert isinstance(call, ast.Call)
        knobs = {knob.arg or "**": ast.literal_eval(knob.value) for knob in call.keywords}
    except (AssertionError, *_NO_LITERAL):
        raise BadValue(f'{text!r} is not a fault with knobs, such as "close(code=4000)"') from None
    known = list(fault.knobs())
    if call.args or not known:
        raise BadValue(f"the knobs of {name} are given by name: {', '.join(known) or 'it has none'}")
    for knob in knobs:
        if knob not in known:
            raise UnknownName(f"{name} knob", knob, known)
    return type(fault)(**knobs)
