"""What a handler opens by calling a class that Python has in C: memory maps, epolls, raw files."""

from __future__ import annotations

import io
import mmap
import os
import select
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import labkit

#: What handlers keep beyond their end.
kept: list[Any] = []


@pytest.fixture(autouse=True)
def forget() -> Any:
    yield
    for each in kept:
        each.close()
    kept.clear()


def maps(_: Path) -> Any:
    return mmap.mmap(-1, 100)


def maps_a_file(path: Path) -> Any:
    with path.open("r+b") as file:
        return mmap.mmap(file.fileno(), 0)


def opens_raw(path: Path) -> Any:
    return io.FileIO(path)


def takes_a_descriptor_over(path: Path) -> Any:
    return io.FileIO(os.open(path, os.O_RDONLY))


def buffers(path: Path) -> Any:
    return io.BufferedReader(io.FileIO(path))


def polls(_: Path) -> Any:
    return select.epoll()


linux = pytest.mark.skipif(sys.platform != "linux", reason="epoll is Linux' own")


@pytest.mark.parametrize(
    ("opens", "what"),
    [
        (maps, "memory map"),
        (maps_a_file, "memory map"),
        (opens_raw, "file 'members.db'"),
        (takes_a_descriptor_over, "file 'members.db'"),
        (buffers, "file 'members.db'"),
        pytest.param(polls, "epoll", marks=linux),
    ],
)
async def test_each_is_left_behind_until_it_is_closed(opens: Callable[[Path], Any], what: str, tmp_path: Path) -> None:
    """With the line that has opened it; the lab closes it."""
    path = tmp_path / "members.db"
    path.write_text("Ann")

    async def leaves(websocket: Any) -> None:
        kept.append(opens(path))
        await websocket.wait_closed()

    async def closes(websocket: Any) -> None:
        opened = opens(path)
        await websocket.wait_closed()
        opened.close()

    left, closed = [
        await labkit.play(handler, on="websockets", fault="close", patience=0.2) for handler in (leaves, closes)
    ]
    assert left.verdict.leaked is not None
    lines = range(opens.__code__.co_firstlineno, opens.__code__.co_firstlineno + 4)
    assert left.verdict.leaked in {(f"{what}, opened in line {line}",) for line in lines}
    assert kept[0].closed
    assert closed.verdict.leaked == ()


@linux
async def test_what_nobody_has_any_more_is_closed_by_python() -> None:
    """Of a map and an epoll, Python does not mind; the lab keeps no epoll open either."""
    most: list[int] = []

    async def drops(websocket: Any) -> None:
        for _ in range(20):
            select.epoll()
            mmap.mmap(-1, 100)
            most.append(len(os.listdir("/proc/self/fd")))  # noqa: PTH208
        await websocket.wait_closed()

    run = await labkit.play(drops, on="websockets", fault="close", patience=0.2)
    assert run.verdict.leaked == ()
    assert max(most) - min(most) <= 1


async def test_the_classes_are_what_they_were_for_the_handler() -> None:
    """It may ask for them, match them, and make subclasses of those that have some."""
    told: list[Any] = []

    async def asks(websocket: Any) -> None:
        class Own(mmap.mmap):
            pass

        own, plain = Own(-1, 10), mmap.mmap(-1, 10)
        told.extend([type(own) is Own, isinstance(own, mmap.mmap), isinstance(plain, mmap.mmap), type(plain)])
        match plain:
            case mmap.mmap():
                told.append("matches")
        own.close()
        plain.close()
        if sys.platform == "linux":
            with select.epoll() as first, select.epoll.fromfd(os.dup(first.fileno())) as second:
                told.append(isinstance(second, select.epoll))
        await websocket.wait_closed()

    before = mmap.mmap
    run = await labkit.play(asks, on="websockets", fault="close", patience=0.2)
    assert told[:5] == [True, True, True, before, "matches"], run
    assert told[5:] in ([True], [])
    assert mmap.mmap is before
