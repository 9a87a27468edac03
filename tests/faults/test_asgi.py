"""What each ASGI server tells the echo endpoint, fault by fault: the rows of ``expectations.py``, side by side."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

import labkit
from tests import handlers
from tests.faults.expectations import TABLE, Told, expected, made
from tests.faults.test_table import check

ASGI = [on for on, stack in labkit.STACKS.items() if stack.interface == "asgi"]
ROWS = {fault: row for table in TABLE.values() for fault, row in table.items()}

#: Another server costs more time than it tells in the everyday suite.
STACKS = [on if on == "asgi" else pytest.param(on, marks=pytest.mark.soak) for on in ASGI]


async def play(on: str) -> dict[str, labkit.Run]:
    """Play every fault on a stack: those that end the handler with a long patience, the others with a short one."""
    told = {fault: expected(row, on) for fault, row in ROWS.items()}
    stay = [fault for fault, row in told.items() if row.ending == "running"]

    async def some(faults: list[str], patience: float) -> Mapping[str, labkit.Run | None]:
        to_strike = [made(fault) for fault in faults]
        table = await labkit.matrix([handlers.asgi_echo], on=on, faults=to_strike, patience=patience, progress=False)
        return dict(zip(faults, table.runs, strict=True))

    ends, stays = await asyncio.gather(some([fault for fault in told if fault not in stay], 10.0), some(stay, 0.3))
    return {fault: run for fault, run in {**ends, **stays}.items() if run is not None}


@pytest.fixture(scope="module", params=STACKS)
def played(request: pytest.FixtureRequest) -> tuple[str, dict[str, labkit.Run]]:
    """A stack, and its run for each fault."""
    return request.param, asyncio.run(play(request.param))


@pytest.mark.parametrize("fault", ROWS)
def test_the_echo_endpoint(fault: str, played: tuple[str, dict[str, labkit.Run]]) -> None:
    """The verdict says how the endpoint ended, what code it was told, and whether it was told at all."""
    on, runs = played
    told: Told = expected(ROWS[fault], on)
    check(runs[fault], made(fault), told)
