"""A pulse in the event loop, so that an interrupt is heard while nothing happens."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

__all__ = ["pulse"]

#: Seconds between two beats: how long an interrupt may go unheard.
_BEAT: Final = 0.2


@contextmanager
def pulse() -> Iterator[None]:
    """Wake the running loop now and then, while the block runs.

    The Jupyter kernel turns an interrupt into a cancel by way of ``loop.call_soon``, called from its signal handler
    (ipykernel 7 with tornado 6: ``_cancel_on_sigint``, ``IOLoop.add_callback``). That does not wake a loop that sleeps
    until its next event, so a cell that waits for a silent peer could not be interrupted.
    """
    loop = asyncio.get_running_loop()
    handles: list[asyncio.TimerHandle] = []

    def beat() -> None:
        handles[:] = [loop.call_later(_BEAT, beat)]

    beat()
    try:
        yield
    finally:
        handles[0].cancel()
