"""Makes a step of a handler fail that leaves its work to the tasks of a task group."""

from __future__ import annotations

import asyncio
from types import FrameType
from typing import Any

from labkit.introspection.suspended import frames

__all__ = ["fail_in_group"]


def fail_in_group(coroutine: Any, exception: Exception) -> bool:
    """Let a new task of a task group fail, if a handler awaits the end of such a group.

    An exception that is raised in the handler itself would come out of the middle of ``__aexit__``, which no
    program does; the group would leave its tasks behind.

    Args:
        coroutine: the handler's coroutine, which waits.
        exception: what the new task raises.

    Returns:
        Whether it waits for a group of asyncio.
    """
    group = next(filter(None, map(_group_that_ends, frames(coroutine))), None)
    if group is None:
        return False

    async def fails() -> None:
        raise exception

    group.create_task(fails())
    return True


def _group_that_ends(frame: FrameType) -> asyncio.TaskGroup | None:
    """The task group that waits in ``__aexit__`` for its tasks, if this is that frame."""
    group = frame.f_locals.get("self") if frame.f_code.co_name == "__aexit__" else None
    return group if isinstance(group, asyncio.TaskGroup) else None
