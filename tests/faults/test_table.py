"""What each stack tells the echo handler, fault by fault: one row a fault, measured at every run."""

from __future__ import annotations

from typing import Any

import aiohttp
import pytest

import labkit
from tests import handlers

LOST = "ConnectionClosedError"

# fault: for each stack, how the handler ends and which close code its connection reports.
TABLE = {
    #                           aiohttp             aiohttp-cancel        websockets
    "close": [("returned", 1000), ("returned", 1000), ("returned", 1000)],
    "close(code=1011)": [("returned", 1011), ("returned", 1011), (LOST, 1011)],
    "close(code=4000)": [("returned", 4000), ("returned", 4000), (LOST, 4000)],
    "going-away": [("returned", 1001), ("returned", 1001), ("returned", 1001)],
    "no-code": [("returned", 0), ("returned", 0), ("returned", 1005)],
    "close-then-reset": [("returned", 1000), ("returned", 1000), ("returned", 1000)],
    "ignore-close": [("running", None), ("running", None), ("running", None)],
    "fin": [("returned", 1006), ("cancelled", None), (LOST, 1006)],
    "half-close": [("returned", 1006), ("cancelled", None), (LOST, 1006)],
    "reset": [("returned", 1006), ("cancelled", None), (LOST, 1006)],
    "truncated-frame": [("returned", 1006), ("cancelled", None), (LOST, 1006)],
    "truncated-frame(then='reset')": [("returned", 1006), ("cancelled", None), (LOST, 1006)],
    "blackhole": [("running", None), ("running", None), ("running", None)],
    "blackhole(direction='to-server')": [("running", None), ("running", None), ("running", None)],
    "stalled-reader": [("running", None), ("running", None), ("running", None)],
    "frozen-process": [("running", None), ("running", None), ("running", None)],
    "sigint": [("returned", 1006), ("cancelled", None), (LOST, 1006)],
    "sigkill": [("returned", 1006), ("cancelled", None), (LOST, 1006)],
    # The echo handler of aiohttp is the one that everybody writes: it answers an ERROR message too, and stumbles.
    "bad-opcode": [("TypeError", 1006), ("TypeError", 1006), (LOST, 1006)],
    "bad-utf8": [("TypeError", 1006), ("TypeError", 1006), (LOST, 1006)],
    "too-big": [("TypeError", 1006), ("TypeError", 1006), (LOST, 1006)],
    "unmasked-frame": [("running", None), ("running", None), (LOST, 1006)],
    "idle-timeout": [("returned", 1006), ("cancelled", None), (LOST, 1006)],
    "idle-timeout(then='fin')": [("returned", 1006), ("cancelled", None), (LOST, 1006)],
    "slow-link": [("running", None), ("running", None), ("running", None)],
    "shutdown": [("running", None), ("running", None), ("returned", 1001)],
    "handler-error": [("InducedError", None), ("InducedError", None), ("InducedError", None)],
    "blocked-loop": [("running", None), ("running", None), ("running", None)],
    "second-cancel": [("cancelled", None), ("cancelled", None), ("cancelled", None)],
}
#: The connection was in order when the handler ended: there was nothing to notice.
IN_ORDER = {"handler-error", "second-cancel"}
KNOBS: dict[str, labkit.Fault] = {
    str(fault): fault
    for fault in (
        labkit.Close(code=1011),
        labkit.Close(code=4000),
        labkit.TruncatedFrame(then="reset"),
        labkit.Blackhole(direction="to-server"),
        labkit.IdleTimeout(then="fin"),
    )
}
ROWS = [
    pytest.param(fault, on, *expected, id=f"{fault}-{on}")
    for fault, row in TABLE.items()
    for on, expected in zip(handlers.STACKS, row, strict=True)
]


def test_every_fault_has_its_row() -> None:
    """A fault that is added is measured on every stack, or this fails."""
    rows = {fault.partition("(")[0] for fault in [*TABLE, *HANDSHAKES]}
    assert rows == set(labkit.FAULTS)
    assert set(handlers.STACKS) == set(labkit.STACKS)


@pytest.mark.parametrize(("fault", "on", "ending", "close_code"), ROWS)
async def test_the_echo_handler(fault: str, on: str, ending: str, close_code: int | None) -> None:
    """The verdict says how the handler ended, what its connection reports, and whether it was told."""
    patience = 0.3 if ending == "running" else 10.0
    run = await labkit.play(handlers.echo(on), on=on, fault=KNOBS.get(fault, fault), patience=patience)
    verdict = run.verdict
    raised = (verdict.exception or "").partition(":")[0].rpartition(".")[2]
    told = raised if verdict.ending == "raised" else verdict.ending
    assert (told, verdict.close_code) == (ending, close_code), run
    assert verdict.noticed == ("no" if ending == "running" or fault in IN_ORDER else "yes"), run
    assert (len(run.timeline.select("handler", "note")) == 1) is (ending == "returned"), run
    assert verdict.leaked == ()


# What the client sees where no WebSocket comes about, as each client tells it.
HANDSHAKES = {
    #                        aiohttp                             websockets
    "handshake-cut": ["ServerDisconnectedError", "InvalidMessage"],
    "handshake-cut(then='reset')": ["ClientOSError", "InvalidMessage"],
    "handshake-hang": [None, None],
    "handshake-refused": ["WSServerHandshakeError", "InvalidStatus"],
    "handshake-refused(status=401)": ["WSServerHandshakeError", "InvalidStatus"],
}
HANDSHAKE_KNOBS: dict[str, labkit.Fault] = {
    str(fault): fault for fault in (labkit.HandshakeCut(then="reset"), labkit.HandshakeRefused(status=401))
}


@pytest.mark.parametrize("on", handlers.STACKS)
@pytest.mark.parametrize(
    ("fault", "client", "exception"),
    [
        (fault, client, exception)
        for fault, row in HANDSHAKES.items()
        for client, exception in zip(("aiohttp", "websockets"), row, strict=True)
    ],
)
async def test_the_handshake(fault: str, client: str, exception: str | None, on: str) -> None:
    """The handler never starts, on no stack; the client gets its library's own exception, or waits."""
    patience = 0.3 if exception is None else 10.0
    run = await labkit.play(
        handlers.echo(on), on=on, fault=HANDSHAKE_KNOBS.get(fault, fault), client=client, patience=patience
    )
    saw = (run.verdict.client_exception or "").partition(":")[0].rpartition(".")[2]
    assert (saw or None) == exception, run
    assert (run.verdict.ending, run.verdict.noticed) == ("unknown", "unknown")
    assert not run.timeline.select("handler", "start")
    refused = run.timeline.select("client", "refused")
    assert [event.data["status"] for event in refused] == [STATUS.get(fault)] * (exception is not None)


STATUS = {"handshake-refused": 503, "handshake-refused(status=401)": 401}


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
    assert cancelled.data == {"by": "RequestHandler.connection_lost (aiohttp)", "package": "aiohttp"}


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
    assert causes == {"reset": ConnectionResetError, "fin": EOFError}


# Cleanup of three slow steps, by style: how many finished before the handler ended, and how many after it.
STYLES = {
    # style:            aiohttp            aiohttp-cancel     websockets
    #                   close   reset      close   reset      close   reset
    "after_the_loop": [(3, 0), (3, 0), (0, 0), (0, 0), (3, 0), (0, 0)],
    "in_finally": [(3, 0), (3, 0), (0, 0), (3, 0), (3, 0), (3, 0)],
    "after_except": [(3, 0), (3, 0), (0, 0), (3, 0), (3, 0), (0, 0)],
    "shielded": [(3, 0), (3, 0), (0, 3), (3, 0), (3, 0), (3, 0)],
    "awaited_again": [(3, 0), (3, 0), (3, 0), (3, 0), (3, 0), (3, 0)],
}
CASES = [(on, fault) for on in handlers.STACKS for fault in ("close", "reset")]


@pytest.mark.parametrize(
    ("style", "on", "fault", "steps"),
    [
        pytest.param(style, on, fault, steps, id=f"{style}-{on}-{fault}")
        for style, row in STYLES.items()
        for (on, fault), steps in zip(CASES, row, strict=True)
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
    expected = {(3, 0): "complete", (0, 3): "outlived", (0, 0): "truncated" if begun else "none"}
    assert run.verdict.cleanup == expected[steps], run
