"""What each stack tells the echo handler, fault by fault: one row a fault, measured at every run."""

from __future__ import annotations

from typing import Any

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
}
KNOBS: dict[str, labkit.Fault] = {
    str(fault): fault
    for fault in (labkit.Close(code=1011), labkit.Close(code=4000), labkit.TruncatedFrame(then="reset"))
}
ROWS = [
    pytest.param(fault, on, *expected, id=f"{fault}-{on}")
    for fault, row in TABLE.items()
    for on, expected in zip(handlers.STACKS, row, strict=True)
]


def test_every_fault_has_its_row() -> None:
    """A fault that is added is measured on every stack, or this fails."""
    assert {fault.partition("(")[0] for fault in TABLE} == set(labkit.FAULTS)
    assert set(handlers.STACKS) == set(labkit.STACKS)


@pytest.mark.parametrize(("fault", "on", "ending", "close_code"), ROWS)
async def test_the_echo_handler(fault: str, on: str, ending: str, close_code: int | None) -> None:
    """The verdict says how the handler ended, what its connection reports, and whether it was told."""
    patience = 0.3 if ending == "running" else 10.0
    run = await labkit.play(handlers.echo(on), on=on, fault=KNOBS.get(fault, fault), patience=patience)
    verdict = run.verdict
    raised = (verdict.exception or "").rpartition(".")[2].partition(":")[0]
    told = raised if verdict.ending == "raised" else verdict.ending
    assert (told, verdict.close_code) == (ending, close_code), run
    assert verdict.noticed == ("no" if ending == "running" else "yes"), run
    assert (len(run.timeline.select("handler", "note")) == 1) is (ending == "returned"), run
    assert verdict.leaked == ()


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
