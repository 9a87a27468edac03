"""What each stack tells the echo handler, fault by fault: the rows of ``expectations.py``, measured at every run."""

from __future__ import annotations

from typing import Any

import aiohttp
import pytest

import labkit
from labkit.faults import FAMILIES
from tests import handlers
from tests.faults.expectations import ANY, FOLLOWS, HANDSHAKES, TABLE, Told, by_stack, made
from tests.versions import older


def test_every_fault_has_its_row() -> None:
    """A fault that is added is measured on every stack, or this fails; a row stands in its fault's family."""
    families = {**TABLE, "handshake": HANDSHAKES}
    rows = {family: {fault.partition("(")[0] for fault in table} for family, table in families.items()}
    faults = {family: {name for name, fault in labkit.FAULTS.items() if fault.family == family} for family in FAMILIES}
    assert rows == faults
    assert list(TABLE) == list(FAMILIES) == list(dict.fromkeys(fault.family for fault in labkit.FAULTS.values()))
    assert all(str(made(fault)) == fault for table in families.values() for fault in table)


def test_every_stack_says_whom_it_follows() -> None:
    """A stack that is added is measured against every fault, or this fails."""
    assert set(FOLLOWS) == set(labkit.STACKS)
    assert set(FOLLOWS.values()) <= set(labkit.STACKS) | {ANY}
    assert {on for table in TABLE.values() for row in table.values() for on in row} <= set(labkit.STACKS) | {ANY}


@pytest.mark.parametrize(
    ("fault", "on", "told"),
    [
        pytest.param(fault, on, told, id=f"{fault}-{on}")
        for table in TABLE.values()
        for fault, row in table.items()
        for on, told in by_stack(row)
    ],
)
async def test_the_echo_handler(fault: str, on: str, told: Told) -> None:
    """The verdict says how the handler ended, what its connection reports, and whether it was told."""
    strikes = made(fault)
    stays = told.ending == "running"
    check(await labkit.play(handlers.echo(on), on=on, fault=strikes, patience=0.3 if stays else 10.0), strikes, told)


def check(run: labkit.Run, strikes: labkit.Fault, told: Told) -> None:
    """The verdict is what a row says, and what the fault's class says about it is what was measured."""
    verdict, stays = run.verdict, told.ending == "running"
    raised = (verdict.exception or "").partition(":")[0].rpartition(".")[2]
    assert Told(raised if verdict.ending == "raised" else verdict.ending, verdict.close_code) == told, run
    # Where it is the handler itself that the fault ends, its connection was in order: there was nothing to notice.
    assert verdict.noticed == ("no" if stays or strikes.ends == "handler" else "yes"), run
    assert (len(run.timeline.select("handler", "note")) == 1) is (told.ending == "returned"), run
    assert verdict.leaked == ()
    # What the fault's class says about it is what was measured.
    answered = any(
        event.at > run.timeline.select("wire", "fault")[0].at for event in run.timeline.select("client", "recv")
    )
    assert stays or strikes.ends != "nothing", run
    assert (run.timeline.select("loop", "shutdown") != []) is (strikes.ends == "server"), run
    assert answered or strikes.demands != "answer", run
    assert not (stays and answered) or strikes.demands in {"answer", "end or stay"}, run


@pytest.mark.parametrize("on", [*handlers.STACKS, "asgi"])
@pytest.mark.parametrize(
    ("fault", "client", "exception"),
    [(fault, client, exception) for fault, row in HANDSHAKES.items() for client, exception in row.items()],
)
async def test_the_handshake(fault: str, client: str, exception: str | None, on: str) -> None:
    """The handler never starts, on no stack; the client gets its library's own exception, or waits."""
    strikes = made(fault)
    patience = 0.3 if exception is None else 10.0
    run = await labkit.play(handlers.echo(on), on=on, fault=strikes, client=client, patience=patience)
    saw = (run.verdict.client_exception or "").partition(":")[0].rpartition(".")[2]
    assert (saw or None) == exception, run
    assert (run.verdict.ending, run.verdict.noticed) == ("unknown", "unknown")
    assert not run.timeline.select("handler", "start")
    assert (strikes.ends, strikes.demands) == ("handshake", "nothing")
    refused = run.timeline.select("client", "refused")
    status = strikes.knobs().get("status")
    assert [event.data["status"] for event in refused] == [status] * (exception is not None)


@pytest.mark.parametrize(("fault", "how"), [("handshake-cut", "fin"), ("handshake-refused", "fin")])
async def test_the_labs_own_client_sees_the_end_of_the_connection_too(fault: str, how: str) -> None:
    """It is refused, and then its connection ends; the lab does not stop it before."""
    run = await labkit.play(handlers.websockets_echo, on="websockets", fault=fault)
    assert [event.data["how"] for event in run.timeline.select("client", "ended")] == [how]


@pytest.mark.parametrize(
    ("client", "options"),
    [("websockets", {"open_timeout": 0.05}), ("aiohttp", {"timeout": aiohttp.ClientTimeout(total=0.05)})],
)
async def test_a_client_that_waits_gives_up_in_its_own_time(client: str, options: dict[str, Any]) -> None:
    """A hung handshake is a TimeoutError in both libraries, the builtin one or a subclass."""
    run = await labkit.play(
        handlers.websockets_echo, on="websockets", fault="handshake-hang", client=client, client_options=options
    )
    assert run.verdict.client_exception is not None
    assert "Timeout" in run.verdict.client_exception
    assert run.verdict.sentence.startswith("handshake-hang: the handler never started; the client saw ")


@pytest.mark.parametrize("fault", ["fin", "half-close", "reset", "truncated-frame"])
async def test_the_library_that_cancels_is_named(fault: str) -> None:
    """With handler_cancellation it is aiohttp's connection_lost that cancels, and the timeline says so."""
    run = await labkit.play(handlers.aiohttp_echo, on="aiohttp-cancel", fault=fault)
    [cancelled] = run.timeline.select("handler", "cancelled")
    assert (cancelled.by, cancelled.package) == ("RequestHandler.connection_lost (aiohttp)", "aiohttp")


async def test_after_a_reset_websockets_keeps_the_cause() -> None:
    """A RST and a FIN raise the same error; its __cause__ tells them apart."""
    causes: dict[str, type | None] = {}

    async def handler(websocket: Any) -> None:
        try:
            await handlers.websockets_echo(websocket)
        except Exception as error:
            causes[fault] = type(error.__cause__)

    for fault in ("reset", "fin"):
        await labkit.play(handler, on="websockets", fault=fault)
    # Before 17.4 a FIN leaves no cause.
    assert causes == {"reset": ConnectionResetError, "fin": type(None) if older("websockets", "17.4") else EOFError}


# Cleanup of three slow steps: how many finished before the handler ended, and how many after it.
ALL, NONE, LATER = (3, 0), (0, 0), (0, 3)

# style → fault → what becomes of the steps.
STYLES: dict[str, dict[str, dict[str, tuple[int, int]]]] = {
    "after_the_loop": {
        "close": {ANY: ALL, "aiohttp-cancel": NONE},
        "reset": {"aiohttp": ALL, "aiohttp-cancel": NONE, "websockets": NONE},
    },
    "in_finally": {"close": {ANY: ALL, "aiohttp-cancel": NONE}, "reset": {ANY: ALL}},
    "after_except": {"close": {ANY: ALL, "aiohttp-cancel": NONE}, "reset": {"aiohttp": ALL, "websockets": NONE}},
    "shielded": {"close": {ANY: ALL, "aiohttp-cancel": LATER}, "reset": {ANY: ALL}},
    "awaited_again": {"close": {ANY: ALL}, "reset": {ANY: ALL}},
}


@pytest.mark.parametrize(
    ("style", "on", "fault", "steps"),
    [
        pytest.param(style, on, fault, steps, id=f"{style}-{on}-{fault}")
        for style, faults in STYLES.items()
        for fault, row in faults.items()
        for on, steps in by_stack(row)
    ],
)
async def test_the_cleanup_by_style(style: str, on: str, fault: str, steps: tuple[int, int]) -> None:
    """The same three steps, written in five ways."""
    run = await labkit.play(getattr(handlers, style), on=on, fault=fault, patience=10)
    [end] = run.timeline.select("handler", "end")
    closed = run.timeline.select("cleanup", "closed")
    before = sum(event.at <= end.at for event in closed)
    assert (before, len(closed) - before) == steps, run
    begun = bool(run.timeline.select("cleanup", "closing"))
    found = {ALL: "complete", LATER: "outlived", NONE: "truncated" if begun else "none"}
    assert run.verdict.cleanup == found[steps], run
