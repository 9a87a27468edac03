"""A client that the server refuses, since code of the server's own fails."""

from __future__ import annotations

from typing import Any

import labkit


async def test_the_exception_that_refuses_a_client_is_told() -> None:
    """The client sees no more than a status; the server has logged why."""

    async def echo(websocket: Any) -> None:
        async for message in websocket:
            await websocket.send(message)

    def fails(_: Any, __: Any) -> None:
        raise RuntimeError("no such table")

    run = await labkit.play(echo, on="websockets", fault="reset", process_request=fails)
    assert run.verdict.sentence.startswith(
        "The handler never started: HTTP 500; the server logged RuntimeError: no such table"
    ), run
