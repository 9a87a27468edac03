"""What a handler has another thread do: told while it lasts, and no thread of a pool is the handler's to end."""

from __future__ import annotations

import threading
import time
from typing import Annotated, Any

import anyio
import pytest
from fastapi import Depends, FastAPI, WebSocket

import labkit
from labkit.events import HandlerNote
from labkit.support.clock import scaled


def user() -> str:
    """No coroutine function: FastAPI calls it in a thread."""
    labkit.note("asks", thread=threading.current_thread().name)
    return "ann"


def make_app() -> Any:
    """An application with a dependency of the plainest kind."""
    app = FastAPI()

    @app.websocket("/")
    async def chat(websocket: WebSocket, name: Annotated[str, Depends(user)]) -> None:
        await websocket.accept()
        async for message in websocket.iter_text():
            await websocket.send_text(f"{name}: {message}")

    return app


async def test_the_threads_of_anyio_are_the_loops() -> None:
    """One is started for a dependency, and waits for the next: it is no leak, and the clock jumps past it."""
    began = time.monotonic()
    run = await labkit.play(make_app, on="asgi", fault="blackhole", clock="autojump", patience=100)
    assert run.verdict.noticed_after is not None
    assert time.monotonic() - began < run.verdict.noticed_after
    [asked] = run.timeline.all(HandlerNote)
    assert "AnyIO" in asked.data["thread"]
    assert (run.verdict.leaked, run.verdict.noticed) == ((), "yes"), run
    again = await labkit.play(make_app, on="asgi", fault="reset")
    assert again.outcome == "clean", again
    lines = {line.code.strip(): line.state for line in again.source().lines}
    assert lines['return "ann"'] == "ran"


async def test_a_call_that_a_handler_abandons_is_told() -> None:
    """While the thread still runs it, it is left behind, by the name of its function."""
    goes_on = threading.Event()

    async def leaves(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text(await websocket.receive_text())
        with anyio.move_on_after(0):
            await anyio.to_thread.run_sync(goes_on.wait, abandon_on_cancel=True)  # never begins
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: anyio.to_thread.run_sync(goes_on.wait, abandon_on_cancel=True))
            await websocket.receive()
            group.cancel_scope.cancel()

    try:
        run = await labkit.play(leaves, on="asgi", fault="reset", patience=0.2)
    finally:
        goes_on.set()
    assert run.verdict.leaked is not None
    [left] = run.verdict.leaked
    assert left.startswith("call of Event.wait in a thread"), run


@pytest.mark.parametrize("again", [False, True])
async def test_a_timer_of_threading_is_left_behind_and_ended(*, again: bool) -> None:
    """It waits for a minute, or sets itself again and again; of all threads it is the one that can be ended."""
    beats: list[None] = []

    async def beats_beside(websocket: Any) -> None:
        def beat() -> None:
            beats.append(None)
            start(scaled(0.02))

        def start(seconds: float) -> None:
            timer = threading.Timer(seconds, beat)
            timer.name, timer.daemon = "heart", True
            timer.start()

        start(scaled(0.02) if again else 60)
        async for message in websocket:
            await websocket.send(message)

    run = await labkit.play(beats_beside, on="websockets", fault="close", patience=0.2)
    [left] = run.verdict.leaked or ()
    assert left.startswith("thread 'heart', started in line ")
    before = len(beats)
    assert bool(before) is again
    for thread in [each for each in threading.enumerate() if each.name == "heart"]:
        thread.join(5)
    assert [each.name for each in threading.enumerate() if each.name == "heart"] == []
    assert len(beats) <= before + 1
