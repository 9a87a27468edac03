"""Tells whether a limit of time, which a handler has set, ends a waiting."""

from __future__ import annotations

import asyncio
from types import FrameType
from typing import Any, Literal

__all__ = ["Cause", "cause_of_cancel", "cause_of_removal"]

#: What ended a waiting: a limit of time for this one; code of the user's, whose reasons are its own; anything else.
Cause = Literal["limit", "user", "other"]

#: Packages whose code passes on what other code has decided.
_MACHINERY = frozenset({"asyncio", "anyio", "async_timeout", "concurrent", "labkit", "nest_asyncio", "nest_asyncio2"})


def cause_of_cancel(frame: FrameType | None) -> Cause:
    """Find out what cancels a future for which a task waits, as the stack shows.

    A limit counts if it ends this waiting alone. One that ends a whole group of tasks, or what ``gather`` has put
    together, is a limit for more than that.

    Args:
        frame: the frame of the future's ``cancel()``, or of the ``cancel()`` of the task that waits.

    Returns:
        The cause.
    """
    while frame is not None and (_package(frame) == "labkit" or _is_of_futures_alone(frame) or _is_of_a_task(frame)):
        frame = frame.f_back
    if frame is None:
        return "other"
    module, function = _module(frame), frame.f_code.co_name
    if module == "asyncio.timeouts" or module.startswith("async_timeout"):
        return "limit"
    if module == "asyncio.tasks" and function == "_cancel_and_wait":
        return _of_wait_for(frame.f_back)
    if module == "anyio._backends._asyncio" and function == "_deliver_cancellation":
        return _of_scope(frame)
    return "other" if _package(frame) in _MACHINERY else "user"


def cause_of_removal(frame: FrameType | None) -> Cause | None:
    """Find out why nobody waits any more for a future that is not done, as the stack shows.

    Args:
        frame: the frame of the future's ``remove_done_callback()``.

    Returns:
        The cause; None if somebody still waits, or if the waiting ended because it had what it waited for.
    """
    while frame is not None and _package(frame) == "labkit":
        frame = frame.f_back
    if frame is None or frame.f_globals.get("__name__") != "asyncio.tasks":
        return None
    if frame.f_code.co_name == "_outer_done_callback":
        return "user"  # who has cancelled what `asyncio.shield` returned is not on the stack
    return _of_wait(frame.f_locals) if frame.f_code.co_name == "_wait" else None


def _is_of_a_task(frame: FrameType) -> bool:
    """Whether a task is cancelled by a method in Python, which it has where nest-asyncio is applied."""
    return frame.f_code.co_qualname == "Task.cancel" and _module(frame) == "asyncio.tasks"


def _is_of_futures_alone(frame: FrameType) -> bool:
    """Whether ``asyncio.gather`` cancels its parts, none of which is a task: then they are all pongs."""
    if frame.f_code.co_qualname != "_GatheringFuture.cancel":
        return False
    return not any(isinstance(each, asyncio.Task) for each in frame.f_locals["self"]._children)  # noqa: SLF001


def _of_wait_for(frame: FrameType | None) -> Cause:
    """``asyncio.wait_for`` cancels, on Python 3.11: since its time is up, or since it was cancelled itself."""
    while frame is not None and frame.f_code.co_name != "wait_for":
        frame = frame.f_back
    waiter = None if frame is None else frame.f_locals.get("waiter")
    return "user" if isinstance(waiter, asyncio.Future) and waiter.cancelled() else "limit"


def _of_scope(frame: FrameType) -> Cause:
    """A scope of anyio cancels."""
    origin, task = frame.f_locals.get("origin"), frame.f_locals.get("task")
    if getattr(origin, "deadline", float("inf")) > asyncio.get_running_loop().time():
        return "user"
    # The scope was entered by the task that waits; else the limit is one for a group of tasks.
    return "limit" if task is not None and getattr(origin, "_host_task", None) is task else "other"


def _of_wait(names: dict[str, Any]) -> Cause | None:
    """``asyncio.wait`` returns: since its time is up, or since enough has been done."""
    waiter, futures = names["waiter"], names["fs"]
    if names["timeout_handle"] is None or waiter.cancelled():
        return None
    match names["return_when"]:
        case asyncio.FIRST_COMPLETED:
            enough = any(each.done() for each in futures)
        case asyncio.FIRST_EXCEPTION:
            enough = any(each.done() and not each.cancelled() and each.exception() for each in futures)
        case _:
            enough = False
    return None if enough else "limit"


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))


def _package(frame: FrameType) -> str:
    return _module(frame).partition(".")[0]
