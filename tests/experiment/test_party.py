"""Clients with names, whose handlers share a set of connections."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, broadcast

import labkit
from labkit.errors import BadValue, LabError
from labkit.watch.handler import Handler

NAMES = ("Ann", "Ben", "Cleo")


def room(members: set[ServerConnection]) -> Handler:
    """Each message goes to all that are there."""

    async def handler(websocket: ServerConnection) -> None:
        members.add(websocket)
        try:
            async for message in websocket:
                broadcast(members, message)
        finally:
            members.discard(websocket)

    return handler


async def test_each_receives_what_one_of_them_sends() -> None:
    """All receive it, and it stands on the timeline with the name of who sent it and who received it."""
    members: set[ServerConnection] = set()
    async with labkit.party(room(members), NAMES, members=members) as party:
        await party["Ben"].send(" hello ")
        await party["Ben"].settled()
        await party.settled()
        assert [guest.received for guest in party.values()] == [["hello"]] * 3
        assert [(guest.code, guest.ending) for guest in party.values()] == [(None, None)] * 3
    marks = [(event.kind, event.data["who"]) for event in party.timeline.select("client", "send", "recv")]
    assert marks[0] == ("send", "Ben")
    assert sorted(marks[1:]) == [("recv", name) for name in NAMES]


async def test_the_names_follow_the_members() -> None:
    """The first is that of the client to which a loop over the members comes first, whenever it has connected."""
    members: list[ServerConnection] = []

    async def last_comes_first(websocket: ServerConnection) -> None:
        members.insert(0, websocket)
        await websocket.wait_closed()

    async with labkit.party(last_comes_first, NAMES, members=members) as party:
        assert [*party] == [*NAMES]
        assert [guest.server for guest in party.values()] == members
        assert [guest.link.number for guest in party.values()] == [2, 1, 0]


@pytest.mark.parametrize("name", NAMES)
async def test_one_of_them_is_cut_off(name: str) -> None:
    """Whichever it is: its link, its handler and its place in the set are its own; the others go on."""
    members: set[ServerConnection] = set()
    async with labkit.party(room(members), NAMES, members=members) as party:
        gone, others = party[name], [guest for guest in party.values() if guest.name != name]
        gone.link.reset()
        await party.until(lambda: gone.ending)
        await others[0].send("still here")
        await others[0].settled()
        await party.settled()
        assert gone.server not in party.members
        assert (gone.code, gone.received) == (1006, [])
        assert "ConnectionClosedError" in (gone.ending or "")
        assert [(guest.code, guest.ending, guest.received) for guest in others] == [(None, None, ["still here"])] * 2


async def test_a_wait_has_an_end() -> None:
    """What does not become true is told; and a party leaves no task behind."""
    before = asyncio.all_tasks()
    members: set[ServerConnection] = set()
    with pytest.raises(LabError, match=r"not become true within 0\.05 s"):
        async with labkit.party(room(members), NAMES, members=members) as party:
            await party.until(lambda: False, seconds=0.05 / labkit.scaled(1))
    assert asyncio.all_tasks() == before


@pytest.mark.parametrize("names", [(), ("Ann", "Ann"), "Ann"])
async def test_names_are_checked(names: Any) -> None:
    """Before anything is opened."""
    with pytest.raises(BadValue, match="several names, each of them once"):
        async with labkit.party(room(set()), names, members=set()):
            raise AssertionError
