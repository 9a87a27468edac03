"""The same fault at each moment of a handler."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest
from aiohttp import web

import labkit
from labkit.errors import BadValue, LabError, UnknownName
from labkit.experiment.between import moments_between


async def order(request: web.Request) -> web.WebSocketResponse:
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    async with labkit.resource("database"):
        async for _ in ws:
            await asyncio.sleep(0.001)
            labkit.note("charged")
            await asyncio.sleep(0.001)
            labkit.note("written")
            await ws.send_str("confirmed")
    return ws


def charged_is_written(run: labkit.Run) -> bool:
    notes = [event.text for event in run.timeline.until_stop().select("handler", "note")]
    return "charged" not in notes or "written" in notes


async def test_the_window_in_which_a_card_is_charged_and_nothing_is_written() -> None:
    """Where the handler is cancelled between the two; nowhere else, and nowhere on aiohttp's default."""
    strip = await labkit.moments(order, on="aiohttp-cancel", fault="reset", holds=charged_is_written)
    assert [(row["moment"], row["done"], row["outcome"]) for row in strip.rows()] == [
        ("await 1", "", "clean"),
        ("await 2", "", "clean"),
        ("await 3", "charged", "broken"),
        ("frame 1", "charged, written", "clean"),
        ("await 4", "charged, written", "clean"),
        ("through", "charged, written", "clean"),
    ]
    first = order.__code__.co_firstlineno
    assert [row["line"] - first for row in strip.rows()] == [4, 5, 7, 4, 4, 4]
    worst = strip.outcomes[0]
    assert (worst.word, worst.moments, worst.notes) == ("broken", "await 3", ("charged",))
    default = await labkit.moments(order, on="aiohttp", fault="reset", holds=charged_is_written)
    assert {row["holds"] for row in default.rows()} == {True}


async def test_the_same_moment_gives_the_same_run() -> None:
    """The strip's run is the one that `play` gives at the same await."""
    strip = await labkit.moments(order, on="aiohttp-cancel", fault="close")
    for number in (1, 3):
        again = await labkit.play(order, on="aiohttp-cancel", fault="close", when=labkit.Await(number))
        assert again.outcome == strip[number].outcome
        assert again.verdict.lines_never_ran == strip[number].verdict.lines_never_ran
    assert strip["through"].verdict.struck
    with pytest.raises(UnknownName, match="moment"):
        strip[99]


async def test_the_window_in_which_an_order_is_written_and_its_client_never_hears_of_it() -> None:
    """At no await: it is between the client's message and the answer, which the handler has sent."""

    def client_knows(run: labkit.Run) -> bool:
        written = [note for note in run.timeline.until_stop().select("handler", "note") if note.text == "written"]
        return len(run.timeline.until_stop().select("client", "recv")) == len(written)

    strip = await labkit.moments(order, on="aiohttp-cancel", fault="reset", holds=client_knows)
    assert [row["moment"] for row in strip.rows() if row["outcome"] == "broken"] == ["frame 1"]
    [worst, *_] = strip.outcomes
    assert (worst.moments, worst.notes) == ("frame 1", ("charged", "written"))
    assert f"labkit replay {worst.strikes[0].token}" in str(strip)
    again = await labkit.replay(worst.strikes[0].token)
    assert not client_knows(again)
    assert again.verdict.sentence.startswith("reset after frame 1: ")
    assert strip["frame 1"].verdict.lines_never_ran == again.verdict.lines_never_ran


async def test_of_two_messages_at_once_each_has_its_moment() -> None:
    """The second is on its way while the handler is busy with the first; no await knows the one without the other."""

    async def talk(client: Any) -> None:
        await client.send("one")
        await client.send("two")
        await client.recv()
        await client.recv()

    strip = await labkit.moments(order, on="aiohttp", fault="reset", talk=talk)
    at = {row["moment"]: row["done"] for row in strip.rows()}
    assert at["frame 1"] == "charged, written"
    assert at["frame 2"] == "charged, written, charged, written"
    assert strip.notices == ()


async def test_a_fault_that_waits_for_a_moment_of_its_own_strikes_at_none_between_frames() -> None:
    """Before it strikes, everything has passed."""
    strip = await labkit.moments(order, fault=labkit.IdleTimeout(0.05))
    assert [strike.frame for strike in strip.strikes] == [None] * len(strip)


@pytest.mark.parametrize(
    ("frames", "talks", "found"),
    [
        ("", False, []),
        ("cs", False, [1]),
        ("cscs", False, [1, 3]),
        ("csss", False, [1]),  # of several answers none has arrived
        ("cc", False, []),  # the second is sent when the handler waits for it
        ("ccss", True, [1, 2]),
        ("scs", False, [0, 2]),  # a greeting
        ("ccc", True, [1, 2]),
        ("sss", False, [0]),
    ],
)
def test_only_what_no_await_finds_is_played_between_frames(frames: str, talks: bool, found: list[int]) -> None:
    """A frame of the client's, or of the server's, each a message."""
    sources = {"c": "client", "s": "server"}
    assert moments_between([(sources[each], "TEXT", True) for each in frames], talks=talks) == found


async def test_frames_that_differ_each_time_are_told() -> None:
    """Nothing between them can be played again; the awaits can."""
    calls = itertools.count()

    async def fickle(websocket: Any) -> None:
        async for message in websocket:
            if next(calls) % 2:
                await websocket.send(message)

    strip = await labkit.moments(fickle, on="websockets", patience=0.2, messages=("1", "2", "3"))
    assert "Frame 2 is not the same each time, so no moment between later ones is played." in strip.notices
    assert [strike.frame for strike in strip.strikes] == [None] * len(strip)


async def test_a_handler_that_is_never_done_makes_a_moment_between_frames_unknown() -> None:
    """The strip says so, and why."""

    async def ticks(websocket: Any) -> None:
        await websocket.recv()
        for _ in range(5):
            await websocket.send("tick")
            await asyncio.sleep(0.2)
        await websocket.recv()

    strip = await labkit.moments(ticks, on="websockets", patience=0.1, at_most=4)
    assert any("At frame 1 it is unknown whether the handler had done all" in notice for notice in strip.notices)


async def test_it_works_on_websockets_and_with_a_talk() -> None:
    """A conversation of one's own is played at each moment."""

    async def handler(websocket: Any) -> None:
        async for message in websocket:
            await asyncio.sleep(0)
            labkit.note(message)
            await websocket.send(message)

    async def talk(client: Any) -> None:
        for word in ("one", "two"):
            await client.send(word)
            await client.recv()

    strip = await labkit.moments(handler, on="websockets", fault="reset", talk=talk)
    assert len(strip) >= 4
    assert strip.rows()[-1]["done"] == "one, two"
    assert {row["exception"].partition(":")[0] for row in strip.rows()} == {
        "websockets.exceptions.ConnectionClosedError"
    }


async def test_an_invariant_may_ask_a_database() -> None:
    """A coroutine function is awaited; one that raises leaves the moment undecided, and says why."""

    async def asks(run: labkit.Run) -> bool:
        await asyncio.sleep(0)
        return False

    def raises(run: labkit.Run) -> bool:
        raise RuntimeError("no database")

    strip = await labkit.moments(order, holds=asks)
    assert [fate.word for fate in strip.outcomes] == ["broken"] * len(strip.outcomes)
    strip = await labkit.moments(order, holds=raises)
    assert {row["reason"] for row in strip.rows()} == {"holds() raised RuntimeError: no database"}
    assert {row["holds"] for row in strip.rows()} == {None}
    assert "holds() raised RuntimeError: no database" in str(strip)


async def test_a_handler_that_differs_each_time_is_told() -> None:
    """The strip says so, and goes on."""
    calls = itertools.count()

    async def fickle(websocket: Any) -> None:
        turns = 5 * (next(calls) % 2)
        async for message in websocket:
            for _ in range(turns):
                await asyncio.sleep(0)
            await websocket.send(message)

    strip = await labkit.moments(fickle, on="websockets", patience=0.2)
    assert any("not the same each time" in notice for notice in strip.notices)
    assert len(strip) > 5


async def test_what_is_kept_for_all_clients_lives_on() -> None:
    """A moment that does not come again for what an earlier play has left: the strip says what lives on."""
    members = []

    async def takes_one(websocket: Any) -> None:
        if not members:
            members.append(websocket)
            async for message in websocket:
                await websocket.send(message)

    strip = await labkit.moments(takes_one, on="websockets", patience=0.2)
    assert [notice for notice in strip.notices if notice.endswith("for all its clients lives on from play to play.")]


async def test_thousands_of_awaits_are_sampled() -> None:
    """An even sample, with the first and the last; the strip says so."""

    async def long(websocket: Any) -> None:
        async for message in websocket:
            for _ in range(2000):
                await asyncio.sleep(0)
            await websocket.send(message)

    strip = await labkit.moments(long, on="websockets", at_most=5)
    assert [strike.frame for strike in strip.strikes if strike.frame is not None] == [1]
    numbers = [strike.number for strike in strip.strikes if strike.frame is None]
    assert len(numbers) == 5
    assert numbers[0] == 1
    assert numbers[-1] == 0
    assert numbers[-2] > 2000
    assert "this is an even sample of 4" in str(strip)


async def test_thousands_of_moments_between_frames_are_sampled_too() -> None:
    """A quarter of the moments at most."""

    async def echo(websocket: Any) -> None:
        async for message in websocket:
            await websocket.send(message)

    strip = await labkit.moments(echo, on="websockets", at_most=8, messages=("hi",) * 20)
    assert [strike.frame for strike in strip.strikes if strike.frame is not None] == [1, 39]
    assert "There are 20 moments between frames; this is an even sample of 2." in strip.notices


async def test_an_interrupt_gives_what_is_done() -> None:
    """The moments that were not played say so."""
    played = 0

    async def counts(websocket: Any) -> None:
        nonlocal played
        played += 1
        async for message in websocket:
            for _ in range(100):
                await asyncio.sleep(0)
            await websocket.send(message)

    task = asyncio.ensure_future(labkit.moments(counts, on="websockets"))
    while played < 25:  # noqa: ASYNC110 - a handler tells nobody
        await asyncio.sleep(0.001)
    task.cancel()
    strip = await task
    reasons = [row["reason"] for row in strip.rows()]
    assert reasons.count("interrupted") > 10
    interrupted = next(strike.number for strike in strip.strikes if strike.reason == "interrupted")
    with pytest.raises(LabError, match="has no run: interrupted"):
        strip[interrupted]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"fault": "handshake-cut"}, "strikes in the opening handshake"),
        ({"when": 0.5}, "when= is what moments() goes through"),
        ({"at_most": 0}, "at_most=0; it takes a whole number from 1"),
        ({"fault": None}, "fault=None; it takes a fault, or the name of one"),
        ({"holds": True}, "holds=True; it takes a function of the run"),
    ],
)
async def test_a_mistake_is_told_in_one_sentence(options: dict[str, Any], sentence: str) -> None:
    """Before anything is played."""
    with pytest.raises(BadValue) as raised:
        await labkit.moments(order, **options)
    assert sentence in str(raised.value)
