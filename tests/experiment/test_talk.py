"""A client may have a conversation of its own: a coroutine function that sends, receives and closes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import labkit
from labkit.errors import BadHandler, BadValue
from labkit.events import ClientFailed, ClientRecv, WireFault, WireSpared
from labkit.experiment.run import Run
from labkit.support.clock import scaled
from tests.handlers import STACKS, echo, websockets_echo

CLIENTS = tuple(labkit.CLIENTS)


async def logs_in(client: Any) -> None:
    """Asks for each thing when the last has been answered."""
    await client.send("hello")
    assert await client.recv() == "hello"
    await client.send(b"\x00\xff")
    assert await client.recv() == b"\x00\xff"


def struck_after(run: Run) -> list[str]:
    """What the client had received when the fault struck."""
    fault = run.timeline.first(WireFault)
    assert fault is not None, run.verdict.sentence
    return [event.text for event in run.timeline.all(ClientRecv) if event.at <= fault.at]


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("on", STACKS)
async def test_it_is_the_same_with_every_client(on: str, client: str) -> None:
    """It gets what it was sent, and the fault strikes when it has returned."""

    async def echoes(given: Any) -> Any:
        return await (websockets_echo(given) if on == "websockets" else _echo_aiohttp(given))

    run = await labkit.play(echoes, on, "reset", talk=logs_in, client=client)
    assert struck_after(run) == ["'hello'", r"b'\x00\xff'"]
    assert run.verdict.struck
    assert not run.timeline.all(ClientFailed)
    assert [event.text for event in run.timeline.select("client", "send")] == ["'hello'", r"b'\x00\xff'"]


async def _echo_aiohttp(request: Any) -> Any:
    from aiohttp import web

    ws = web.WebSocketResponse()
    await ws.prepare(request)
    async for message in ws:
        await (ws.send_str(message.data) if message.type is web.WSMsgType.TEXT else ws.send_bytes(message.data))
    return ws


@pytest.mark.parametrize("fault", ["sigkill", labkit.BlockedLoop(seconds=0.05)], ids=str)
@pytest.mark.parametrize("client", CLIENTS)
async def test_in_a_process_and_with_a_server_in_a_loop_of_its_own(client: str, fault: Any) -> None:
    """Where the client or the server runs elsewhere."""
    run = await labkit.play(websockets_echo, "websockets", fault, talk=logs_in, client=client, patience=1)
    assert struck_after(run)[:2] == ["'hello'", r"b'\x00\xff'"]


@pytest.mark.parametrize("client", CLIENTS)
async def test_what_it_raises_is_one_finding(client: str) -> None:
    """No fault strikes, and the sentence says what was raised, and where, once."""

    async def expects_more(client: Any) -> None:
        await client.send("hello")
        answer = await client.recv()
        assert answer == "HELLO", f"it answered {answer!r}"

    run = await labkit.play(websockets_echo, "websockets", "reset", talk=expects_more, client=client, patience=0.3)
    line = expects_more.__code__.co_firstlineno + 3
    why = f"expects_more() raised AssertionError: it answered 'hello', line {line}"
    assert run.timeline.all(WireSpared)[0].why == why
    assert run.verdict.sentence.startswith(f"No fault struck, since {why}: websockets_echo on websockets ")
    assert run.verdict.sentence.count("AssertionError") == 1
    assert run.outcome == "unstruck"
    [failed] = run.timeline.all(ClientFailed)
    assert failed.exception.startswith("AssertionError: it answered 'hello'")
    assert "Traceback" not in str(run)


@pytest.mark.parametrize("exception", [SystemExit(2), KeyboardInterrupt(), asyncio.CancelledError(), ValueError()])
async def test_whatever_it_raises_the_lab_goes_on(exception: BaseException) -> None:
    """Even what would end a loop."""

    async def fails(client: Any) -> None:
        raise exception

    run = await labkit.play(websockets_echo, "websockets", fault=None, talk=fails, patience=0.2)
    assert f"the client's fails() raised {type(exception).__name__}" in run.verdict.sentence
    assert run.verdict.ending == "running"


@pytest.mark.parametrize("client", CLIENTS)
async def test_the_end_of_the_connection_is_told_to_it(client: str) -> None:
    """By a ConnectionError out of both methods, when all that has come has been received."""
    told: list[str] = []

    async def turns_away(websocket: Any) -> None:
        await websocket.send("go")
        await websocket.close(4001, "away")

    async def insists(client: Any) -> None:
        assert await client.recv() == "go"
        for act in (client.recv, lambda: client.send("please")):
            try:
                await act()
            except ConnectionError as error:
                told.append(str(error))

    run = await labkit.play(turns_away, "websockets", "reset", talk=insists, client=client)
    assert told == [f"{method}: the connection is over: Close 4001 'away'" for method in ("recv()", "send()")]
    assert run.timeline.all(WireSpared)[0].why == "the handler had called close(4001)"
    assert not run.timeline.all(ClientFailed)


@pytest.mark.parametrize("fault", ["reset", "sigkill"])
@pytest.mark.parametrize("client", CLIENTS)
async def test_it_may_close_the_connection_itself(client: str, fault: str) -> None:
    """Then there is nothing left for the fault to break."""

    async def leaves(client: Any) -> None:
        await client.send("hello")
        await client.recv()
        await client.close(4000, "bye")

    run = await labkit.play(websockets_echo, "websockets", fault, talk=leaves, client=client)
    assert run.timeline.all(WireSpared)[0].why == "the client had sent Close 4000 'bye'"
    assert run.verdict.close_code == 4000


@pytest.mark.parametrize(
    ("does", "says"),
    [
        (lambda _: asyncio.Event().wait(), "had not called the client"),
        (lambda client: client.recv(), "had waited in recv()"),
    ],
    ids=["waits", "recv"],
)
async def test_one_that_never_returns_is_waited_for_as_long_as_the_patience_lasts(does: Any, says: str) -> None:
    """Then the fault strikes, and the verdict says that the conversation may not have been through."""

    async def stays(client: Any) -> None:
        await does(client)

    run = await labkit.play(websockets_echo, "websockets", "reset", talk=stays, patience=scaled(0.2) / scaled(1))
    says = f"{says} for {scaled(0.2):g} s"
    assert f"whether the conversation was through is unknown: stays() {says}" in run.verdict.sentence
    assert run.verdict.struck
    assert not run.timeline.all(ClientFailed)


async def test_nothing_of_it_is_left_behind() -> None:
    """Not even of one that swallows a cancel, and what it prints is the client's."""

    async def clings(client: Any) -> None:
        print("I stay")  # noqa: T201
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0)

    before = asyncio.all_tasks()
    run = await labkit.play(websockets_echo, "websockets", "close", talk=clings, patience=0.2)
    assert asyncio.all_tasks() == before
    assert run.verdict.leaked == ()
    assert [event.text for event in run.timeline.select("client", "print")] == ["I stay"]


async def test_each_of_several_clients_has_a_call_of_its_own() -> None:
    """And the others still get answers after the fault, to what they have said in it."""

    async def says_its_number(client: Any) -> None:
        await client.send(f"I am {client.number}")
        assert await client.recv() == f"I am {client.number}"

    run = await labkit.play(websockets_echo, "websockets", "reset", talk=says_its_number, clients=3)
    assert run.verdict.sentence.endswith("Connections 2 and 3 were still answered.")
    for each in run.connections:
        assert {event.text for event in each.timeline.all(ClientRecv)} == {f"'I am {each.number}'"}


async def test_faults_send_once_more_what_it_has_said() -> None:
    """Such as a slow link, which is measured with the messages of the conversation."""
    run = await labkit.play(websockets_echo, "websockets", labkit.SlowLink(delay=0.02), talk=logs_in, patience=0.5)
    assert [event.text for event in run.timeline.select("client", "send")] == 2 * ["'hello'", r"b'\x00\xff'"]


def at_once(client: Any) -> None:
    """Not asynchronous."""


@pytest.mark.parametrize(
    ("talk", "error", "says"),
    [
        ("hello", BadHandler, "the talk is 'hello', which cannot be called; give the function itself: async def h(cl"),
        (lambda: None, BadHandler, "the talk '<lambda>' "),
        (at_once, BadHandler, "the talk 'at_once' is not a coroutine function; write it as: async def at_once(client)"),
    ],
)
async def test_what_is_no_talk_is_refused_in_one_sentence(talk: Any, error: type[Exception], says: str) -> None:
    """Before any socket opens."""
    with pytest.raises(error) as refused:
        await labkit.play(echo("aiohttp"), talk=talk)
    assert says in str(refused.value)


async def test_a_client_has_messages_or_a_talk() -> None:
    """Both would leave open which comes first."""
    with pytest.raises(BadValue, match="both talk= and messages= are given"):
        await labkit.play(echo("aiohttp"), talk=logs_in, messages=("one",))


@pytest.mark.parametrize("message", [None, 3, "\ud800"])
async def test_what_is_no_message_is_told_where_it_is_sent(message: Any) -> None:
    """In the sentence of the run."""

    async def sends(client: Any) -> None:
        await client.send(message)

    run = await labkit.play(websockets_echo, "websockets", "reset", talk=sends, patience=0.2)
    assert run.timeline.all(WireSpared)[0].why.startswith("sends() raised BadValue: the message ")
