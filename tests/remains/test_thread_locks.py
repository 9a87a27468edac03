"""The locks of `threading` that a handler leaves held."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

import labkit

charging = threading.Lock()
members = threading.RLock()
places = threading.BoundedSemaphore(2)


class Till:
    def __init__(self) -> None:
        self.lock = threading.Lock()


till = Till()


@pytest.mark.parametrize(
    ("lock", "name"),
    [
        (charging, "Lock 'charging'"),
        (members, "RLock 'members'"),
        (places, "BoundedSemaphore 'places'"),
        (till.lock, "Lock 'till.lock'"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
async def test_one_that_others_look_for_is_left_held(lock: Any, name: str) -> None:
    """By its name, since nobody hears who takes it; the lab releases it for the next."""

    async def forgets(websocket: Any) -> None:
        lock.acquire()
        await websocket.recv()
        await websocket.recv()
        lock.release()

    async def releases(websocket: Any) -> None:
        with lock:
            await websocket.wait_closed()

    run = await labkit.play(forgets, on="websockets", fault="close", patience=0.2)
    assert run.verdict.leaked == (f"{name} of threading, acquired and not released",)
    again = await labkit.play(releases, on="websockets", fault="close", patience=0.2)
    assert again.verdict.leaked == ()


async def test_one_that_a_thread_holds_for_a_moment_is_not_left() -> None:
    """As long as a thread is at work, it may release what it has; one that nobody else has matters to nobody."""
    goes_on = threading.Event()

    def works() -> None:
        with charging:
            goes_on.wait(10)

    async def leaves_work(websocket: Any) -> None:
        threading.Thread(target=works, name="worker").start()
        own = threading.Lock()
        own.acquire()
        await websocket.wait_closed()

    playing = asyncio.create_task(labkit.play(leaves_work, on="websockets", fault="close", patience=0.2))
    run = await playing
    goes_on.set()
    assert run.verdict.leaked is not None
    assert [each.partition(",")[0] for each in run.verdict.leaked] == ["thread 'worker'"]


async def test_one_that_was_held_before_is_somebody_elses() -> None:
    """The handler has not taken it."""

    async def echoes(websocket: Any) -> None:
        async for message in websocket:
            await websocket.send(message)

    with charging:
        run = await labkit.play(echoes, on="websockets", fault="close", patience=0.2)
    assert run.verdict.leaked == ()
