"""The fault strikes between two frames: what has come has had its effect, and what comes next is still on its way."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

import pytest

import labkit
from labkit.errors import BadValue
from labkit.events import ClientRecv, Event, HandlerNote, HandlerRecv, HandlerSend, WireFault, WireFrame
from labkit.experiment.run import Run
from tests.experiment.test_clients import enter
from tests.handlers import STACKS


async def shop(given: Any) -> Any:
    """Writes each order, and confirms it."""
    ws, send, messages = await enter(given)
    async for message in messages:
        await asyncio.sleep(0)
        labkit.note(f"wrote {message}")
        await send(f"confirmed {message}")
    return ws


async def two_at_once(client: Any) -> None:
    """Orders twice before it looks for an answer."""
    await client.send("1")
    await client.send("2")
    await client.recv()
    await client.recv()


def before(run: Run, *kinds: type[Event]) -> list[str]:
    """The texts of events before the fault."""
    [fault] = run.timeline.all(WireFault)
    return [event.text for event in run.timeline.all(*kinds) if event.at <= fault.at]


@pytest.mark.parametrize("client", list(labkit.CLIENTS))
@pytest.mark.parametrize("on", STACKS)
async def test_the_order_is_written_and_its_client_never_hears_of_it(on: str, client: str) -> None:
    """After the first frame, which is the client's: the handler has answered, and the answer is lost."""
    run = await labkit.play(shop, on, "reset", when=labkit.Frame(1), client=client)
    assert before(run, WireFrame, HandlerNote, HandlerSend) == ["TEXT 'hello'", "wrote hello", "'confirmed hello'"]
    assert run.timeline.all(ClientRecv) == []
    assert run.verdict.sentence.startswith("reset after frame 1: shop on ")
    assert run.verdict.struck
    assert "unknown" not in run.verdict.sentence


@pytest.mark.parametrize("on", STACKS)
async def test_of_two_messages_only_the_first_is_there(on: str) -> None:
    """The client has sent both; the same five times of five, whatever else the machine does."""
    runs = await asyncio.gather(
        *(labkit.play(shop, on, "reset", when=labkit.Frame(1), talk=two_at_once) for _ in range(5))
    )
    for run in runs:
        assert [event.text for event in run.timeline.select("client", "send")] == ["'1'", "'2'"]
        assert [event.text for event in run.timeline.all(HandlerRecv)] == ["'1'"]
        assert before(run, HandlerNote) == ["wrote 1"]
    assert len({(run.verdict.ending, run.verdict.exception, run.outcome) for run in runs}) == 1


async def test_of_a_message_in_fragments_the_first_has_arrived() -> None:
    """Its client has the beginning of an answer, and no answer."""

    async def in_fragments(websocket: Any) -> None:
        async for _ in websocket:
            await websocket.send(["one", "two", "three"])

    run = await labkit.play(in_fragments, "websockets", "fin", when=labkit.Frame(2), compression=None)
    assert before(run, WireFrame) == ["TEXT 'hello'", "TEXT 'one'"]
    assert run.timeline.all(ClientRecv) == []
    assert "unknown" not in run.verdict.sentence


@pytest.mark.parametrize("number", [0, 1])
async def test_before_the_first_frame(number: int) -> None:
    """A greeting that is sent and has not arrived; one frame later it has."""

    async def greets(websocket: Any) -> None:
        await websocket.send("welcome")
        async for _ in websocket:
            pass

    run = await labkit.play(greets, "websockets", "reset", when=labkit.Frame(number))
    assert before(run, HandlerSend) == ["'welcome'"]
    assert before(run, ClientRecv) == ["'welcome'"] * number
    assert run.timeline.select("client", "send") == []
    assert run.verdict.sentence.startswith(("reset before the first frame: ", "reset after frame 1: ")[number])


@pytest.mark.parametrize("fault", [name for name, kind in labkit.FAULTS.items() if kind.moment != "handshake"])
async def test_every_fault_strikes_between_frames(fault: str) -> None:
    """What the wire has kept goes on behind it, as far as there is a way."""
    run = await labkit.play(shop, "websockets", fault, when=labkit.Frame(1), patience=1)
    fired = run.timeline.first(WireFault)
    assert fired is not None, run.verdict.sentence
    assert fired.when == "after frame 1"
    assert before(run, HandlerNote) == ["wrote hello"]
    if fault != "idle-timeout":  # which waits until nothing passes any more
        assert before(run, ClientRecv) == []
    if fault in {"close", "cancel", "handler-error", "shutdown", "slow-link"}:
        assert run.timeline.all(ClientRecv)[0].text == "'confirmed hello'"


async def test_a_handler_that_is_never_done_makes_the_moment_unknown() -> None:
    """It speaks again and again; nothing shows when it has done all that it could, and the sentence says so."""

    async def ticks(websocket: Any) -> None:
        await websocket.recv()
        while True:
            await websocket.send("tick")
            await asyncio.sleep(0.001)

    run = await labkit.play(ticks, "websockets", "reset", when=labkit.Frame(1), patience=0.2)
    assert run.verdict.struck
    assert "whether the handler had done all that it could is unknown: " in run.verdict.sentence


async def test_only_the_first_client_is_held() -> None:
    """The others have talked before, and go on."""
    run = await labkit.play(shop, "websockets", "reset", when=labkit.Frame(1), clients=3)
    assert run.verdict.sentence.startswith("reset after frame 1: ")
    assert run.verdict.sentence.endswith("Connections 2 and 3 were still answered.")


async def test_frames_that_never_come_are_told() -> None:
    """The conversation has two, and no fault strikes."""
    run = await labkit.play(shop, "websockets", "reset", when=labkit.Frame(3), patience=0.2)
    assert run.verdict.sentence.startswith("No fault struck, since 2 frames had passed, not 3: ")
    assert run.outcome == "unstruck"


async def test_a_connection_that_is_closing_is_spared() -> None:
    """The answer and the Close are on their way, and the handler has ended."""

    async def answers_once(websocket: Any) -> None:
        await websocket.send(await websocket.recv())

    run = await labkit.play(answers_once, "websockets", "reset", when=labkit.Frame(1))
    assert run.outcome == "unstruck"
    assert run.verdict.sentence.startswith("No fault struck, since the handler had ended")


async def test_the_same_on_the_clock_that_jumps() -> None:
    """The cause is a frame, so it does not matter how time flows."""

    async def slow(websocket: Any) -> None:
        async for message in websocket:
            for _ in range(3):
                await asyncio.sleep(10)
            labkit.note("written")
            await websocket.send(message)

    run = await labkit.play(slow, "websockets", "reset", when=labkit.Frame(1), clock="autojump", patience=60)
    assert before(run, HandlerNote) == ["written"]
    assert run.timeline.all(ClientRecv) == []
    assert "unknown" not in run.verdict.sentence


async def test_tls_hides_the_frames() -> None:
    """One sentence says so, before the client connects."""
    with pytest.raises(BadValue, match="counts frames, which TLS hides from the wire"):
        await labkit.play(
            shop, "websockets", "reset", when=labkit.Frame(1), ssl=ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        )


@pytest.mark.parametrize("number", [-1, 1.5, "1", True])
def test_frames_are_counted_in_whole_numbers(number: Any) -> None:
    """From 0, before the first."""
    with pytest.raises(BadValue, match="it takes a whole number from 0"):
        labkit.Frame(number)
