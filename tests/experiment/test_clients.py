"""Several clients of one server: the fault strikes the first, and the others stay and are watched."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import websockets
from aiohttp import web

import labkit
from labkit.errors import BadValue
from labkit.events import HandlerEnd, HandlerSend, WireFault
from labkit.experiment.run import Run
from labkit.outcome import outcome
from tests import handlers
from tests.handlers import STACKS

Room = dict[Any, Callable[[str], Awaitable[None]]]


async def enter(given: Any) -> tuple[Any, Callable[[str], Awaitable[None]], Any]:
    """Open the connection: the connection, how to send, and the messages; the same for both libraries."""
    if not isinstance(given, web.Request):
        return given, given.send, aiter(given)
    ws = web.WebSocketResponse()
    await ws.prepare(given)

    async def texts() -> Any:
        async for message in ws:
            yield message.data

    return ws, ws.send_str, texts()


def chat(room: Room) -> Any:
    """Everybody gets what anybody says. One dead member ends the round, and the handler that tells it."""

    async def chat(given: Any) -> Any:
        me, send, messages = await enter(given)
        room[me] = send
        try:
            async with labkit.resource("membership", closing=0.01):
                async for message in messages:
                    for tell in list(room.values()):
                        await tell(message)
        finally:
            del room[me]
        return me

    return chat


def careful(room: Room) -> Any:
    """The same, but a dead member is struck off."""

    async def careful(given: Any) -> Any:
        me, send, messages = await enter(given)
        room[me] = send
        try:
            async for message in messages:
                for other, tell in list(room.items()):
                    try:
                        await tell(message)
                    except (ConnectionError, websockets.ConnectionClosed):
                        room.pop(other, None)
        except websockets.ConnectionClosed:
            pass
        finally:
            room.pop(me, None)
        return me

    return careful


def findings(run: Run) -> list[tuple[str, str, str | None]]:
    return [(c.verdict.ending, c.verdict.cleanup, c.verdict.answered) for c in run.connections]


@pytest.mark.parametrize("on", STACKS)
async def test_a_chat_of_two_one_of_whom_is_reset(on: str) -> None:
    """Two verdicts. The other's handler meets the dead member, and ends; no cleanup is taken for the other one's."""
    run = await labkit.play(chat({}), on=on, fault="reset", clients=2)
    assert [(c.number, c.stranger) for c in run.connections] == [(1, False), (2, False)]
    first, second = run.connections
    assert (first.verdict.struck, second.verdict.struck) == (True, None)
    assert (first.verdict.noticed, second.verdict.noticed) == ("yes", "unknown")
    assert first.verdict.cleanup == second.verdict.cleanup == "complete"
    assert (second.verdict.ending, second.verdict.answered) == ("raised", "no")
    loss = "ConnectionClosedError" if on == "websockets" else "ClientConnectionResetError"
    assert loss in str(second.verdict.exception)
    assert second.verdict.sentence.startswith(f"reset struck connection 1: chat on {on} no longer answered and raised")
    # The verdict of the run is the first's, and its sentence tells of the other too.
    assert run.verdict.others == (second.verdict,)
    assert run.verdict.sentence.startswith(first.verdict.sentence)
    assert f" Connection 2 was no longer answered, and its handler raised {loss}" in run.verdict.sentence
    assert run.outcome == "unserved"


@pytest.mark.parametrize("on", STACKS)
async def test_a_hub_of_three_that_strikes_off_its_dead(on: str) -> None:
    """The others are still answered, and their handlers still run when the lab ends the experiment."""
    run = await labkit.play(careful({}), on=on, fault="reset", clients=3)
    [_, *others] = findings(run)
    assert others == [("running", "none", "yes")] * 2
    assert run.verdict.sentence.endswith(" Connections 2 and 3 were still answered.")
    assert run.outcome == ("cancelled" if on == "aiohttp-cancel" else "clean")
    for connection in run.connections[1:]:
        assert connection.timeline.select("client", "ended")[-1].data["how"] == "still-open"


async def test_one_of_them_who_does_not_read_holds_up_all() -> None:
    """A handler that tells everybody waits for the one whose buffers are full; the others are answered no more."""
    long = "a long message " * 7_000
    run = await labkit.play(
        careful({}), on="websockets", fault="stalled-reader", clients=3, messages=(long,), patience=1.0
    )
    assert findings(run)[1:] == [("running", "none", "no")] * 2
    assert "Connections 2 and 3 were no longer answered." in run.verdict.sentence
    assert run.outcome == "unserved"


@pytest.mark.parametrize("on", STACKS)
@pytest.mark.parametrize(
    "fault", ["close", "fin", "blackhole", "bad-utf8", "idle-timeout", "handler-error", "second-cancel", "sigkill"]
)
async def test_the_fault_strikes_the_first_alone(fault: str, on: str) -> None:
    """Whatever it acts on: the client, the wire, the handler, or a process."""
    run = await labkit.play(handlers.echo(on), on=on, fault=fault, clients=2, patience=1.0)
    assert run.connections[0].verdict.struck is True
    assert findings(run)[1:] == [("running", "none", "yes")]
    [struck] = run.timeline.all(WireFault)
    assert struck.connection == 1


@pytest.mark.parametrize("fault", ["handshake-cut", "handshake-refused", "handshake-hang"])
async def test_a_handshake_that_fails_is_the_first_client_s(fault: str) -> None:
    """The wire lets the request of the other through when it has seen whose it is."""
    run = await labkit.play(handlers.websockets_echo, on="websockets", fault=fault, clients=2, patience=0.5)
    assert run.connections[0].verdict.ending == "unknown"
    assert findings(run)[1:] == [("running", "none", "yes")]


@pytest.mark.parametrize("on", STACKS)
async def test_a_shutdown_strikes_all(on: str) -> None:
    """And so does a loop that is blocked: each of the connections is struck."""
    for fault in ("shutdown", "blocked-loop"):
        run = await labkit.play(handlers.echo(on), on=on, fault=fault, clients=2, patience=0.5)
        assert [(c.verdict.struck, c.verdict.answered) for c in run.connections] == [(True, None), (True, None)]


@pytest.mark.parametrize("client", list(labkit.CLIENTS))
async def test_each_event_names_the_connection_of_its_client(client: str) -> None:
    """Of whatever client: the ports of its socket tell which link and which handler are its own."""

    async def named(websocket: Any) -> None:
        async for message in websocket:
            labkit.note(f"{websocket.request.path} {message}")
            await websocket.send(message)

    run = await labkit.play(named, on="websockets", fault="close", clients=2, client=client)
    assert {event.connection for event in run.timeline if event.lane != "loop"} - {None} == {1, 2}
    assert {event.kind for event in run.timeline if event.connection is None} <= {"lines", "stop"}
    for connection in run.connections:
        lanes = {event.lane for event in connection.timeline if event.connection == connection.number}
        assert lanes >= {"client", "wire", "library", "handler"}
        assert len(connection.timeline.select("wire", "link")) == 1


async def test_what_a_handler_sends_to_another_belongs_to_the_connection_on_which_it_travels() -> None:
    """So the arrow goes to the client that gets it; and the event tells whose handler has sent it."""
    run = await labkit.play(chat({}), on="websockets", fault=None, clients=2, messages=("hello",), patience=0.3)
    sent = [(event.connection, event.by is not None) for event in run.timeline.all(HandlerSend)]
    assert sorted(sent) == [(1, False), (1, True), (2, False), (2, True)]
    for connection in run.connections:
        assert len(connection.timeline.select("client", "recv")) == 2


async def test_a_connection_that_replaces_another() -> None:
    """The second login closes the first: the fault finds the first connection over, and the second stays."""
    users: dict[str, Any] = {}

    async def login(websocket: Any) -> None:
        old = users.get("Ann")
        users["Ann"] = websocket
        if old is not None:
            await old.close(4000, "replaced")
        async for message in websocket:
            await websocket.send(message)

    run = await labkit.play(login, on="websockets", fault="reset", clients=2)
    first, second = (connection.verdict for connection in run.connections)
    assert (first.struck, first.ending, first.close_code) == (False, "raised", 4000)
    why = "No fault struck, since another connection's handler had called close(4000)"
    assert run.verdict.sentence.startswith(why)
    assert (second.ending, second.close_code) == ("running", None)


async def test_without_a_fault_all_stay() -> None:
    """Each has its verdict, and none is called a bystander."""
    run = await labkit.play(handlers.websockets_echo, on="websockets", fault=None, clients=2, patience=0.1)
    assert [c.verdict.answered for c in run.connections] == [None, None]
    assert all(c.verdict.sentence.startswith("No fault struck: ") for c in run.connections)


async def test_one_client_is_told_as_ever() -> None:
    """Its connection has the number 1, and no sentence speaks of numbers."""
    run = await labkit.play(handlers.websockets_echo, on="websockets", fault="reset")
    [only] = run.connections
    assert (only.number, only.stranger, only.verdict) == (1, False, run.verdict)
    assert list(only.timeline) == list(run.timeline)
    assert "onnection 1" not in str(run)


@pytest.mark.parametrize("clients", [0, -1, 1.5, True, "2", None])
async def test_a_wrong_number_of_clients_is_refused(clients: Any) -> None:
    """By play and by matrix, before any socket opens."""
    with pytest.raises(BadValue, match="it takes a whole number from 1"):
        await labkit.play(handlers.websockets_echo, on="websockets", clients=clients)
    with pytest.raises(BadValue, match="it takes a whole number from 1"):
        await labkit.matrix([handlers.websockets_echo], on="websockets", clients=clients)


async def test_a_matrix_of_several_clients_tells_the_worst_of_all() -> None:
    """A hub whose own client comes off well, while the others do not, is not clean."""
    table = await labkit.matrix(
        {"naive": chat({}), "careful": careful({})}, on="websockets", faults=["close", "fin"], clients=3
    )
    outcomes = {(cell.handler, cell.fault): outcome(cell.verdict) for cell in table.cells if cell.verdict}
    assert {outcomes["careful", "close"], outcomes["careful", "fin"]} == {"clean"}
    assert outcomes["naive", "fin"] == "unserved"
    assert all(len(run.connections) == 3 for run in table.runs if run)


async def test_the_first_client_s_own_resources_alone_are_its_cleanup() -> None:
    """The other handlers' resources close when the lab stops them: nothing has outlived anything."""
    run = await labkit.play(handlers.three_resources, on="websockets", fault="close", clients=3)
    assert [cleanup for _, cleanup, _ in findings(run)] == ["complete", "unknown", "unknown"]
    ends = [event.connection for event in run.timeline.all(HandlerEnd)]
    assert sorted(ends) == [1, 2, 3]  # type: ignore[type-var]


async def test_many_at_once() -> None:
    """Twenty clients: nothing is left behind, and each is told apart."""
    run = await labkit.play(careful({}), on="websockets", fault="reset", clients=20, patience=5)
    assert findings(run)[1:] == [("running", "none", "yes")] * 19
    assert run.verdict.leaked == ()


async def test_they_may_be_interrupted() -> None:
    """While they talk: nothing is left behind, which the surroundings of every test check."""
    task = asyncio.create_task(
        labkit.play(handlers.three_resources, on="websockets", fault="blackhole", clients=3, patience=30)
    )
    await asyncio.sleep(0.3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
