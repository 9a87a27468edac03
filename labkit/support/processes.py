"""Starting other programs."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

__all__ = ["own_group"]


def own_group() -> dict[str, Any]:
    """The option of the running loop that starts a child in a process group of its own.

    A Ctrl+C in the terminal then reaches the lab, not the child. In a session of its own, a stopped child would outlive
    a lab that is killed: the system only wakes and ends those of a group whose parent was in the same session (SIGCONT
    and SIGHUP; POSIX, "orphaned process group").
    """
    if sys.platform == "win32":
        return {}
    if isinstance(asyncio.get_running_loop(), asyncio.BaseEventLoop):
        return {"process_group": 0}
    return {"preexec_fn": os.setpgrp}  # uvloop does not know the other one
