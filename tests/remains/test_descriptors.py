"""File descriptors that a handler opens by hand."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import tempfile
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


def copies() -> list[int]:
    return [os.dup(0)]


def copies_to_a_number() -> list[int]:
    return [os.dup2(0, 200)]


def makes_a_file_in_memory() -> list[int]:
    return [os.memfd_create("members")]


def makes_an_eventfd() -> list[int]:
    return [os.eventfd(0)]


def opens_a_terminal() -> list[int]:
    return [*os.openpty()]


def makes_a_temporary_file() -> list[int]:
    number, path = tempfile.mkstemp()
    Path(path).unlink()
    return [number]


def watches_a_process() -> list[int]:
    return [os.pidfd_open(os.getpid())]


MADE = {
    copies: ["a copy of another descriptor"],
    copies_to_a_number: ["a copy of another descriptor"],
    makes_a_file_in_memory: ["a file in memory"],
    makes_an_eventfd: ["an eventfd"],
    opens_a_terminal: ["a terminal's controlling end", "a terminal's other end"],
    makes_a_temporary_file: ["a temporary file"],
    watches_a_process: ["a process"],
}


@pytest.mark.skipif(sys.platform != "linux", reason="some of these are Linux' own")
@pytest.mark.parametrize("make", MADE, ids=lambda make: make.__name__)
async def test_each_kind_is_left_behind_until_it_is_closed(make: Callable[[], list[int]]) -> None:
    """By its number, with the line that has opened it; the lab closes it."""
    made: list[int] = []

    async def leaves(websocket: Any) -> None:
        made.extend(make())
        await websocket.wait_closed()

    async def closes(websocket: Any) -> None:
        numbers = make()
        try:
            await websocket.wait_closed()
        finally:
            for number in numbers:
                os.close(number)

    left, closed = [
        await labkit.play(handler, on="websockets", fault="close", patience=0.2) for handler in (leaves, closes)
    ]
    line = make.__code__.co_firstlineno + 1
    assert left.verdict.leaked == tuple(f"descriptor of {name}, opened in line {line}" for name in MADE[make])
    assert closed.verdict.leaked == ()
    for number in made:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(number)


@pytest.mark.filterwarnings("ignore:.*:ResourceWarning", "ignore:.*:pytest.PytestUnraisableExceptionWarning")
async def test_a_listing_is_left_open_if_it_is_kept_half_way(tmp_path: Path) -> None:
    """Python closes one that has come to its end, and one that nobody has any more."""
    for name in "abc":
        (tmp_path / name).touch()
    kept: list[Any] = []

    def lists() -> Any:
        listing = os.scandir(tmp_path)
        next(listing)
        return listing

    def keeps() -> None:
        kept.append(lists())

    def goes_through() -> None:
        kept.append(listing := os.scandir(tmp_path))
        assert len(list(listing)) == 3

    runs = {
        handler: await labkit.play(echoing(handler), on="websockets", fault="close", patience=0.2)
        for handler in (keeps, goes_through, lists)
    }
    line = lists.__code__.co_firstlineno + 1
    leaked = {handler: run.verdict.leaked for handler, run in runs.items()}
    assert leaked == {
        keeps: (f"descriptor of a listing of {tmp_path.name}, opened in line {line}",),
        goes_through: (),
        lists: (),
    }
    assert len(list(kept[0])) == 2  # it is open: its number is its own to close


async def test_what_is_put_in_the_place_of_an_open_one_is_no_new_one(tmp_path: Path) -> None:
    """As people redirect what a program writes."""
    number = os.open(tmp_path / "output", os.O_CREAT | os.O_RDWR)

    def redirects() -> None:
        with (tmp_path / "other").open("w") as other:
            os.dup2(other.fileno(), number)

    try:
        run = await labkit.play(echoing(redirects), on="websockets", fault="close")
        assert run.verdict.leaked == ()
    finally:
        os.close(number)


async def test_a_file_that_takes_a_descriptor_over_is_what_is_left(tmp_path: Path) -> None:
    """It closes the descriptor, so the lab closes the file."""
    kept: list[Any] = []

    def opens() -> None:
        kept.append(os.fdopen(os.open(tmp_path / "log", os.O_CREAT | os.O_RDWR)))
        kept.append(open(tempfile.mkstemp(dir=tmp_path)[0]))  # noqa: PTH123, SIM115 - as people write it

    run = await labkit.play(echoing(opens), on="websockets", fault="close", patience=0.2)
    first, second = (opens.__code__.co_firstlineno + number for number in (1, 2))
    assert run.verdict.leaked == (f"file 'log', opened in line {first}", f"temporary file, opened in line {second}")
    assert [file.closed for file in kept] == [True, True]


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


async def test_a_number_that_is_given_again_has_no_name_of_before(tmp_path: Path) -> None:
    """The system gives the least number that is free: what was closed is over, whoever has its number next."""
    (tmp_path / "members.txt").write_text("Ann")
    numbers: list[int] = []
    kept: list[Any] = []

    def opens() -> None:
        numbers.append(os.open(tmp_path / "members.txt", os.O_RDONLY))
        os.close(numbers[0])
        one, other = socket.socketpair()
        numbers.append(one.detach())
        other.close()
        kept.append(os.fdopen(numbers[1], "rb", 0))

    run = await labkit.play(echoing(opens), on="websockets", fault="close", patience=0.2)
    assert numbers[0] == numbers[1]
    assert "members.txt" not in str(run.verdict.leaked)
    kept.pop().close()
