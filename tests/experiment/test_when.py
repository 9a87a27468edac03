"""The moment at which a fault strikes: a note of the handler's, the nth time that it suspends, or a time."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import pytest
from aiohttp import web

import labkit
from labkit.errors import BadValue
from labkit.events import (
    ClientError,
    ClientSend,
    Event,
    HandlerEnd,
    HandlerLine,
    HandlerNote,
    HandlerStart,
    WireFault,
    WireFrame,
    WireSpared,
)
from labkit.experiment.run import Run
from labkit.support.clock import scaled
from tests.experiment.test_clients import enter
from tests.handlers import STACKS, websockets_echo


async def orders(given: Any) -> Any:
    """Charges a card, writes the order, and says so: between these steps a client may leave."""
    ws, send, messages = await enter(given)
    async for message in messages:
        labkit.note("asked")
        await asyncio.sleep(0)  # the card is charged
        labkit.note("charged")
        await asyncio.to_thread(int)  # the order is written
        labkit.note("written")
        await send(message)
    return ws


def notes(run: Run, of: type[Event] = WireFault) -> list[str]:
    """What the handler had noted when the fault struck."""
    event = run.timeline.first(of)
    assert event is not None, run.verdict.sentence
    return [note.text for note in run.timeline.all(HandlerNote) if note.at <= event.at]


@pytest.mark.parametrize("client", list(labkit.CLIENTS))
@pytest.mark.parametrize("on", STACKS)
async def test_a_fault_strikes_at_a_note(on: str, client: str) -> None:
    """The handler has not gone one step further, on every stack and with every client."""
    run = await labkit.play(orders, on, "reset", when="note: charged", client=client)
    assert notes(run) == ["asked", "charged"]
    assert run.verdict.sentence.startswith("reset at the note 'charged': orders on ")
    assert run.timeline.all(WireFault)[0].when == "at the note 'charged'"
    [fault] = run.timeline.all(WireFault)
    assert fault.label == "fault: reset at the note 'charged'"


@pytest.mark.parametrize("fault", [name for name, kind in labkit.FAULTS.items() if kind.moment != "handshake"])
async def test_every_fault_strikes_at_a_note(fault: str) -> None:
    """Whatever it needs to be staged, the handler is let go again."""
    run = await labkit.play(orders, "websockets", fault, when="note: charged", patience=1)
    fired = run.timeline.first(WireFault)
    assert fired is not None or fault == "idle-timeout", run.verdict.sentence
    if fired is not None and fault != "idle-timeout":  # which waits until nothing passes any more
        assert notes(run) == ["asked", "charged"]
    if fault not in {"handler-error", "cancel", "second-cancel"}:  # they end it where it stands
        assert "written" in [note.text for note in run.timeline.all(HandlerNote)]


async def test_a_note_of_a_task_or_of_a_thread_counts_too() -> None:
    """Whoever makes it for this connection."""

    async def hands_on(websocket: Any) -> None:
        async for message in websocket:
            await asyncio.gather(asyncio.to_thread(labkit.note, "in a thread"))
            await websocket.send(message)

    run = await labkit.play(hands_on, "websockets", "reset", when="note: in a thread")
    assert run.verdict.struck
    assert run.verdict.sentence.startswith("reset at the note 'in a thread': ")


@pytest.mark.parametrize("on", STACKS)
async def test_a_fault_strikes_at_each_suspension(on: str) -> None:
    """The same one finds the handler at the same line, five times of five, until it has none left."""

    async def play(number: int) -> Run:
        return await labkit.play(orders, on, "reset", when=labkit.Await(number), patience=0.5)

    def where(run: Run) -> tuple[Any, ...]:
        fault = run.timeline.first(WireFault, WireSpared)
        assert fault is not None
        lines = [event.line for event in run.timeline.all(HandlerLine) if event.at <= fault.at]
        return (*lines, *notes(run, type(fault)), run.verdict.ending, run.verdict.exception, run.outcome)

    seen = []
    for number in range(1, 20):
        runs = await asyncio.gather(*(play(number) for _ in range(5)))
        assert len({where(run) for run in runs}) == 1
        seen.append([event.text for event in runs[0].timeline.all(HandlerNote) if runs[0].verdict.struck])
        if not runs[0].verdict.struck:
            break
    why = runs[0].timeline.all(WireSpared)[0].why
    assert why == f"the handler had suspended {number - 1} times, not {number}"
    assert runs[0].verdict.sentence.startswith(f"No fault struck, since {why}: orders on {on} was still running")
    assert runs[0].outcome == "unstruck"
    assert ["asked"] in [each[:1] for each in seen]


@pytest.mark.parametrize("on", STACKS)
async def test_at_the_first_suspension_the_client_has_said_nothing(on: str) -> None:
    """It is connected, and the handler waits for the first time."""
    run = await labkit.play(orders, on, "reset", when=labkit.Await(1))
    assert run.timeline.all(ClientSend) == []
    assert run.timeline.select("client", "open")


async def test_the_fault_has_had_its_effect_when_the_handler_goes_on() -> None:
    """It could go on at once: without being held it would send before the library learns of the end."""
    sent: list[str] = []

    async def hurries(websocket: Any) -> None:
        await websocket.recv()
        await asyncio.sleep(0)
        await websocket.send("answer")
        sent.append("answer")

    for number in range(10):
        run = await labkit.play(hurries, "websockets", "reset", when=labkit.Await(2))
        assert run.verdict.ending == "raised", number
    assert sent == []


async def test_who_closes_the_connection_from_elsewhere_is_not_held() -> None:
    """An application's `on_shutdown` says goodbye at once, while its handler is held in the middle of a job."""
    sockets: list[Any] = []

    async def handler(request: Any) -> Any:
        ws, _, messages = await enter(request)
        sockets.append(ws)
        async for _ in messages:
            labkit.note("the job begins")
            await asyncio.sleep(0)
            labkit.note("the job is done")
        return ws

    async def close_all(_: web.Application) -> None:
        await sockets[0].close(code=1001)

    def make_app() -> web.Application:
        app = web.Application()
        app.router.add_get("/", handler)
        app.on_shutdown.append(close_all)
        return app

    run = await labkit.play(make_app, "aiohttp", "shutdown", when="note: the job begins", shutdown_timeout=0.05)
    story = [event for event in run.timeline.since_fault() if isinstance(event, HandlerNote | WireFrame)]
    assert (story[0].text, story[-1].text) == ("Close 1001", "the job is done")


async def test_a_cancel_reaches_a_handler_that_is_held() -> None:
    """As it would reach one that waits its turn in a busy loop."""
    run = await labkit.play(orders, "aiohttp-cancel", "reset", when="note: charged")
    assert run.verdict.ending == "cancelled"
    assert notes(run, HandlerEnd) == ["asked", "charged"]


async def test_a_fault_strikes_after_some_seconds() -> None:
    """Counted from the handler's start, and stretched with all waits of the lab; the patience does not limit it."""
    run = await labkit.play(websockets_echo, "websockets", "reset", when=0.5, patience=0.1)
    start, fault = run.timeline.all(HandlerStart)[0], run.timeline.all(WireFault)[0]
    assert fault.at - start.at >= scaled(0.5)
    assert run.verdict.sentence.startswith("reset after 0.5 s: websockets_echo on websockets noticed after ")


async def test_what_has_not_been_sent_by_then_is_not_sent() -> None:
    """Of three messages the third never."""
    run = await labkit.play(orders, "websockets", "fin", when="note: written", messages=("1", "2", "3"), patience=0.3)
    assert [event.text for event in run.timeline.all(ClientSend)] == ["'1'"]
    assert not run.timeline.all(ClientError)


async def test_a_talk_goes_on_after_the_fault() -> None:
    """It is the client's program, and the fault need not end it."""
    received: list[str] = []

    async def listens(client: Any) -> None:
        while True:
            await client.send("hello")
            received.append(await client.recv())

    link = labkit.SlowLink(delay=0.01)
    run = await labkit.play(orders, "websockets", link, talk=listens, when="note: written", patience=0.5)
    fault = run.timeline.all(WireFault)[0]
    assert [event for event in run.timeline.select("client", "recv") if event.at > fault.at]
    assert received


MISSED = (
    ("note: paid", "there was no note 'paid'"),
    (labkit.Await(1000), "the handler had suspended "),
)


@pytest.mark.parametrize(("when", "missed"), MISSED)
async def test_a_moment_that_never_comes_is_waited_for_as_long_as_the_patience_lasts(when: Any, missed: str) -> None:
    """Then no fault strikes, and the sentence says why."""
    run = await labkit.play(orders, "websockets", "reset", when=when, patience=0.2)
    assert run.timeline.all(WireSpared)[0].why.startswith(missed)
    assert run.verdict.sentence.startswith(f"No fault struck, since {missed}")
    assert run.outcome == "unstruck"


@pytest.mark.parametrize(("when", "missed"), [*MISSED, (1000, "1000 s were not over")])
async def test_nor_does_one_that_would_come_after_the_end(when: Any, missed: str) -> None:
    """Nobody waits for it: the handler has ended."""

    async def answers_once(websocket: Any) -> None:
        await websocket.send(await websocket.recv())

    run = await labkit.play(answers_once, "websockets", "reset", when=when, patience=100)
    assert run.timeline.all(WireSpared)[0].why.startswith(f"the handler had ended, and {missed}")
    assert run.outcome == "unstruck"


async def test_only_the_first_client_is_struck_at_its_moment() -> None:
    """The others have talked before, and go on."""
    run = await labkit.play(orders, "websockets", "reset", when="note: charged", clients=3)
    assert run.verdict.sentence.startswith("reset at the note 'charged': ")
    assert run.verdict.sentence.endswith("Connections 2 and 3 were still answered.")


async def test_a_matrix_takes_a_moment_too() -> None:
    """For every cell; a fault that strikes in the handshake says that it cannot."""
    faults = ["reset", "close", "handshake-cut"]
    table = await labkit.matrix([orders], on="websockets", faults=faults, when=labkit.Await(2))
    assert [cell.outcome for cell in table.cells] == ["raised", "raised", "unknown"]
    reason = table.cells[2].reason
    assert reason == "handshake-cut strikes in the opening handshake, so when=Await(number=2) comes too late"


async def test_a_recording_keeps_the_moment(tmp_path: Any) -> None:
    """And so the same verdict comes out of it."""
    run = await labkit.play(orders, "websockets", "reset", when="note: charged")
    run.save(tmp_path / "run.json")
    again = labkit.load(tmp_path / "run.json")
    assert again.verdict == run.verdict
    assert again.timeline.all(WireFault)[0].when == "at the note 'charged'"


@pytest.mark.parametrize(
    ("when", "fault", "says"),
    [
        ("later", "reset", "when='later'; it takes 'through', 'note: …' with the text of a labkit.note, a number of"),
        ("note: ", "reset", "when='note: '; it takes"),
        (-1, "reset", "when=-1; it takes a number of seconds of 0 or more"),
        (float("nan"), "reset", "when=nan; it takes a number of seconds"),
        (True, "reset", "when=True; it takes"),
        (None, "reset", "when=None; it takes"),
        (0.5, None, "when=0.5 says when the fault strikes, but fault is None"),
        (0.5, "handshake-cut", "handshake-cut strikes in the opening handshake, so when=0.5 comes too late"),
    ],
)
async def test_what_is_no_moment_is_refused_in_one_sentence(when: Any, fault: Any, says: str) -> None:
    """Before any socket opens."""
    with pytest.raises(BadValue) as refused:
        await labkit.play(orders, "websockets", fault, when=when)
    assert says in str(refused.value)


@pytest.mark.parametrize("number", [0, -1, 1.5, "1", True])
def test_a_suspension_is_counted_from_one(number: Any) -> None:
    """In whole numbers; and it is a value, so it cannot be changed."""
    with pytest.raises(BadValue, match="it takes a whole number from 1"):
        labkit.Await(number)
    with pytest.raises(dataclasses.FrozenInstanceError):
        labkit.Await(1).number = 2  # type: ignore[misc]
