"""A sample of the matrix, and what each of its runs tells: the same on every loop, in every mode of Python.

``python -m tests.loops`` plays it, and writes that as JSON.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from aiohttp import web

import labkit
from tests import handlers

#: What a run tells, without its times.
Told = dict[str, Any]


async def leaves_a_task(websocket: Any) -> None:
    """A task outlives its handler."""
    pinging = asyncio.create_task(asyncio.sleep(60), name="pinging")
    await handlers.websockets_echo(websocket)
    pinging.cancel()


async def limited(request: web.Request) -> web.WebSocketResponse:
    """The handler gives up by itself."""
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    await ws.send_str(await ws.receive_str())
    async with asyncio.timeout(0.02):
        await ws.receive()
    return ws


#: Every way in which the lab meets the loop: both ends of the wire, a gate that waits, one that stops reading, a client
#: in a process, a server in a thread, cancels and their causes, limits, tasks that stay, and a cleanup.
SAMPLE: Final[Mapping[str, tuple[Callable[[Any], Awaitable[Any]], str, Mapping[str, Any]]]] = {
    "a close": (handlers.aiohttp_echo, "aiohttp", {"fault": "close"}),
    "a tab that closes": (handlers.websockets_echo, "websockets", {"fault": "closed-tab"}),
    "a reset behind the Close": (handlers.aiohttp_echo, "aiohttp", {"fault": "close-then-reset"}),
    "a reset": (handlers.websockets_echo, "websockets", {"fault": "reset"}),
    "a half-close that cancels": (handlers.after_except, "aiohttp-cancel", {"fault": "half-close"}),
    "a cleanup in a shield": (handlers.shielded, "aiohttp-cancel", {"fault": "reset"}),
    "three resources": (handlers.three_resources, "websockets", {"fault": "idle-timeout"}),
    "silence": (handlers.aiohttp_echo, "aiohttp", {"fault": "blackhole", "patience": 0.3}),
    "a slow link": (handlers.websockets_echo, "websockets", {"fault": "slow-link", "patience": 0.3}),
    "a frame too big": (handlers.aiohttp_echo, "aiohttp", {"fault": "too-big"}),
    "a killed client": (handlers.websockets_echo, "websockets", {"fault": "sigkill"}),
    "a shutdown": (handlers.websockets_echo, "websockets", {"fault": "shutdown"}),
    "a blocked loop": (handlers.aiohttp_echo, "aiohttp-cancel", {"fault": "blocked-loop", "patience": 0.3}),
    "a cut handshake": (handlers.aiohttp_echo, "aiohttp", {"fault": "handshake-cut", "client": "websockets"}),
    "a task that stays": (leaves_a_task, "websockets", {"fault": "reset", "patience": 0.3}),
    "a limit of its own": (limited, "aiohttp", {"fault": None}),
    "three clients": (handlers.websockets_echo, "websockets", {"fault": "reset", "clients": 3}),
}


async def play_sample() -> dict[str, Told]:
    """Play the sample, all of it at the same time.

    Returns:
        What each run tells, by its name.
    """
    runs = await asyncio.gather(*(labkit.play(handler, on, **given) for handler, on, given in SAMPLE.values()))
    return {name: _tell(run) for name, run in zip(SAMPLE, runs, strict=True)}


def _tell(run: labkit.Run) -> Told:
    """The verdict, and what happened to the first connection on the lanes of the server, in its order."""
    verdict = run.verdict
    return {
        "outcome": run.outcome,
        "ending": verdict.ending,
        "exception": verdict.exception,
        "close code": verdict.close_code,
        "noticed": verdict.noticed,
        "lines that never ran": list(verdict.lines_never_ran or ()),
        "cleanup": verdict.cleanup,
        "leaked": list(verdict.leaked),
        "complaints": [_timeless(complaint) for complaint in verdict.complaints],
        "client": [verdict.client_exception, verdict.client_close_code],
        "sentence": _timeless(verdict.sentence),
        "handler": _happened(run, "handler"),
        "library": _happened(run, "library"),
    }


def _happened(run: labkit.Run, lane: str) -> list[str]:
    events = run.timeline.until_stop().select(lane)
    return [_timeless(f"{event.kind} {event.text}") for event in events if event.connection == 1]


def _timeless(text: str) -> str:
    """Take out what differs from run to run: times, ports and addresses in memory."""
    return re.sub(r"\b0x[0-9a-f]+|[\d.,]+ (ms|s)\b|\b\d{5}\b", "…", text)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asyncio.run(play_sample())))
