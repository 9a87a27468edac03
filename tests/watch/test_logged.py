"""Logging as people set it up: whenever that is, what a handler logs is told, and once."""

from __future__ import annotations

import asyncio
import logging
import logging.config
import logging.handlers
import queue
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from aiohttp import web

import labkit
from labkit.timeline import Timeline
from labkit.watch.capture import capture
from tests import handlers


@pytest.fixture
def _root_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers[:] = before[0]
    root.setLevel(before[1])


def by_dict() -> None:
    console = {"class": "logging.StreamHandler", "stream": "ext://sys.stdout"}
    quiet = {"handlers": ["console"], "propagate": False}
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "handlers": {"console": console},
            "root": {"handlers": ["console"], "level": "INFO"},
            "loggers": {"quiet": quiet},
        }
    )


def by_force() -> None:
    logging.basicConfig(level=logging.INFO, force=True)


@pytest.mark.usefixtures("_root_as_it_was")
@pytest.mark.parametrize("set_up", [by_dict, by_force])
@pytest.mark.parametrize("where", ["factory", "startup", "handler"])
async def test_an_application_may_set_up_logging_while_the_lab_listens(set_up: Callable[[], None], where: str) -> None:
    """Both take away every handler that the root logger has."""

    async def handler(request: web.Request) -> web.WebSocketResponse:
        if where == "handler":
            set_up()
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        async for message in ws:
            await ws.send_str(message.data)
        logging.getLogger("chat.room").error("lost a client")
        logging.getLogger("quiet").warning("lost one more")
        return ws

    async def starts(_: web.Application) -> None:
        set_up()

    def make_app() -> web.Application:
        app = web.Application()
        app.router.add_get("/", handler)
        if where == "factory":
            set_up()
        elif where == "startup":
            app.on_startup.append(starts)
        return app

    run = await labkit.play(make_app, on="aiohttp", fault="close")
    assert run.verdict.complaints == ("ERROR chat.room: lost a client", "WARNING quiet: lost one more"), str(run)


@pytest.mark.usefixtures("_root_as_it_was")
async def test_logging_that_a_handler_sets_up_is_set_up() -> None:
    """`basicConfig` does nothing where the root logger has a handler already, and so it must have none of the lab's."""
    root, found = logging.getLogger(), list[int]()
    root.handlers.clear()

    async def handler(websocket: Any) -> None:
        logging.basicConfig()
        found.append(len(root.handlers))
        await handlers.websockets_echo(websocket)

    await labkit.play(handler, on="websockets", fault="close")
    assert found == [1]


async def test_a_record_that_a_queue_gives_to_another_logger_is_told_once() -> None:
    """As the cookbook of `logging` has it, for a program with threads or processes."""
    records: queue.Queue[Any] = queue.Queue()
    log, sink = logging.getLogger("app.queued"), logging.getLogger("app.sink")
    log.addHandler(logging.handlers.QueueHandler(records))
    log.propagate = False

    class Hand(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            sink.handle(record)

    async def handler(websocket: Any) -> None:
        listener = logging.handlers.QueueListener(records, Hand())
        listener.start()
        await handlers.websockets_echo(websocket)
        for _ in range(2):
            log.error("lost %s", "a client")  # twice in one line: two records
        await asyncio.to_thread(listener.stop)

    run = await labkit.play(handler, on="websockets", fault="close")
    assert run.verdict.complaints == ("ERROR app.queued: lost a client",) * 2
    log.handlers.clear()


async def test_a_logger_of_nobodys_is_heard() -> None:
    """One that was made by hand, and has no parent."""
    loose = logging.Logger("loose")  # noqa: LOG001 - what is tested
    timeline = Timeline()
    with capture(timeline), timeline.scope():
        loose.warning("careful")
    assert [event.text for event in timeline] == ["WARNING loose: careful"]


@pytest.mark.usefixtures("_root_as_it_was")
async def test_the_labs_own_client_logs_nothing() -> None:
    """Whoever debugs a server sees what the server logs."""
    logging.getLogger().setLevel(logging.DEBUG)
    run = await labkit.play(handlers.websockets_echo, on="websockets", fault="close")
    logged = {event.data["logger"] for event in run.timeline.select(None, "log")}
    assert logged == {"websockets.server"}


async def test_an_error_handler_that_an_application_sets_for_its_loop_is_called() -> None:
    """What it is given is told, and what it logs; asyncio's own default would log what is told already."""
    loop, before = asyncio.get_running_loop(), asyncio.get_running_loop().get_exception_handler()
    given = list[str]()

    def on_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        given.append(context["message"])
        logging.getLogger("app").warning("caught: %s", context["exception"])
        loop.default_exception_handler(context)

    def fails() -> None:
        raise ValueError("in a callback")

    async def handler(request: web.Request) -> web.WebSocketResponse:
        loop.call_soon(fails)
        return await handlers.aiohttp_echo(request)

    async def starts(_: web.Application) -> None:
        loop.set_exception_handler(on_error)

    def make_app() -> web.Application:
        app = web.Application()
        app.router.add_get("/", handler)
        app.on_startup.append(starts)
        return app

    for _ in range(2):
        run = await labkit.play(make_app, on="aiohttp", fault="close")
        told, logged = run.verdict.complaints
        assert told.endswith("ValueError: in a callback")
        assert logged == "WARNING app: caught: in a callback"
        assert loop.get_exception_handler() is before
    assert len(given) == 2


async def test_a_coroutine_that_nobody_awaits_is_a_complaint_each_time() -> None:
    """A goodbye that is never sent. Python warns once for each line; each run has it nevertheless."""

    async def forgets(websocket: Any) -> None:
        await handlers.websockets_echo(websocket)
        websocket.send("bye")

    before = list(warnings.filters)

    async def play(count: int) -> list[labkit.Run]:
        return await asyncio.gather(*(labkit.play(forgets, on="websockets", fault="close") for _ in range(count)))

    with pytest.warns(RuntimeWarning, match="never awaited"):
        runs = [*await play(2), *await play(1)]
    said = ("coroutine 'Connection.send' was never awaited",)
    assert [(run.outcome, run.verdict.complaints) for run in runs] == [("noisy", said)] * 3
    assert [each for each in warnings.filters if each not in before] == []


@pytest.mark.parametrize("option", ["error", "ignore"])
def test_who_sets_what_becomes_of_warnings_has_it(option: str) -> None:
    """An error of it cannot be raised; Python drops that, and it counts. What is ignored is ignored."""
    program = """
import asyncio, labkit

async def forgets(websocket):
    async for message in websocket:
        await websocket.send(message)
    websocket.send("bye")

async def main():
    for _ in range(2):
        print(len((await labkit.play(forgets, on="websockets", fault="close")).verdict.complaints))

asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-W", f"{option}::RuntimeWarning", "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == (["1", "1"] if option == "error" else ["0", "0"]), done.stderr
