"""What handlers of people's see that were hunted for: the same in the lab as on a plain server."""

from __future__ import annotations

import pytest

from tests.differential import hunted, plain
from tests.differential.test_same_story import IN_A_PROCESS, Case, find_no_difference

#: The ends that a handler meets most.
FAULTS = ("close", "fin", "reset", "shutdown")

PEOPLE = {"websockets": hunted.ON_WEBSOCKETS, "aiohttp": hunted.ON_AIOHTTP, "aiohttp-cancel": hunted.ON_AIOHTTP}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("on", PEOPLE)
async def test_they_see_what_a_plain_server_shows_them(on: str) -> None:
    """Each of them with the ends that are met most."""
    await find_no_difference([Case(person, on, fault) for person in PEOPLE[on] for fault in FAULTS])


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("on", PEOPLE)
async def test_they_meet_every_fault(on: str) -> None:
    """The same, with all of them."""
    faults = [fault for fault in plain.ACTS if fault not in IN_A_PROCESS]
    await find_no_difference([Case(person, on, fault) for person in PEOPLE[on] for fault in faults])
