"""File descriptors that a handler opens by hand."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import labkit
from labkit.events import LoopEnded

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="descriptors are Unix' own")

lock: int | None = None


def echoing(before: Callable[[], Any]) -> Callable[[Any], Any]:
    """A handler that does something first."""

    async def handler(websocket: Any) -> None:
        before()
        async for message in websocket:
            await websocket.send(message)

    return handler


async def test_both_ends_of_a_pipe_are_left_behind() -> None:
    """They have numbers alone, and nobody closes them; the lab does."""
    made: list[int] = []

    def opens() -> None:
        made.extend(os.pipe())

    run = await labkit.play(echoing(opens), on="websockets", fault="close", patience=0.2)
    line = opens.__code__.co_firstlineno + 1
    assert run.verdict.leaked == tuple(
        f"descriptor of a pipe's end to {what}, opened in line {line}" for what in ("read", "write")
    )
    for number in made:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(number)


async def test_a_lock_file_is_left_behind(tmp_path: Path) -> None:
    """As `os.open` has it."""

    def opens() -> None:
        os.open(tmp_path / "members.lock", os.O_CREAT | os.O_RDWR)

    run = await labkit.play(echoing(opens), on="websockets", fault="reset", patience=0.2)
    line = opens.__code__.co_firstlineno + 1
    assert run.verdict.leaked == (f"descriptor of members.lock, opened in line {line}",)


async def test_what_is_closed_in_any_way_is_not_left(tmp_path: Path) -> None:
    """By its number, by a file that has taken it over, or by being given again; nor is what a library has opened."""

    def opens_and_closes() -> None:
        for _ in range(2):
            for number in os.pipe():
                os.close(number)
        with os.fdopen(os.open(tmp_path / "log", os.O_CREAT | os.O_RDWR)):
            pass
        subprocess.run([sys.executable, "-c", ""], check=True, capture_output=True)

    run = await labkit.play(echoing(opens_and_closes), on="websockets", fault="close")
    assert run.verdict.leaked == (), run.verdict.leaked


async def test_the_pipes_of_a_process_go_with_it() -> None:
    """The process is what is left."""
    started: list[subprocess.Popen[bytes]] = []

    def starts() -> None:
        command = [sys.executable, "-c", "input()"]
        started.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE))

    run = await labkit.play(echoing(starts), on="websockets", fault="close", patience=0.2)
    assert [each.partition(" ")[0] for each in run.verdict.leaked or ()] == ["process"]
    with started[0]:
        pass


async def test_what_is_closed_later_is_told_as_ended() -> None:
    """It has outlived its handler, and is no leak."""

    async def closes_later(read: int, write: int) -> None:
        await asyncio.sleep(0.05)
        os.close(read)
        os.close(write)

    tasks = []

    def opens() -> None:
        tasks.append(asyncio.create_task(closes_later(*os.pipe())))

    async def ends_at_once(_: Any) -> None:
        opens()

    run = await labkit.play(ends_at_once, on="websockets", patience=5)
    assert run.verdict.leaked == ()
    assert {event.text for event in run.timeline.all(LoopEnded)} >= {
        "descriptor of a pipe's end to read has been closed, after its handler",
        "descriptor of a pipe's end to write has been closed, after its handler",
    }


async def test_what_the_module_keeps_for_the_next_connection_is_not_left(tmp_path: Path) -> None:
    """As with files."""

    def opens_once() -> None:
        global lock  # noqa: PLW0603 - as people keep one for all connections
        if lock is None:
            lock = os.open(tmp_path / "lock", os.O_CREAT | os.O_RDWR)

    try:
        run = await labkit.play(echoing(opens_once), on="websockets", fault="close", patience=0.2)
        assert run.verdict.leaked == ()
        assert lock is not None
        os.fstat(lock)
    finally:
        with contextlib.suppress(OSError):
            os.close(lock or -1)
