"""Whether experiments of a target share what it keeps, as far as its code shows it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from fastapi import FastAPI

import labkit
from labkit.experiment.shared import keeps_state
from tests import handlers

ONLINE: set[Any] = set()
LIMIT, NAMES = 3, ("ann", "bob")


async def plain(websocket: Any) -> None:
    """Names nothing that can change; what is its own begins anew with each client."""
    mine = list(NAMES)
    async for message in websocket:
        mine.append(message)
        await websocket.send(str(len(mine) % LIMIT))


def register(websocket: Any) -> None:
    ONLINE.add(websocket)


async def deep(websocket: Any) -> None:
    """A function that it calls has the set."""
    register(websocket)


async def inner(websocket: Any) -> None:
    """A function inside of it has."""

    async def forget() -> None:
        ONLINE.discard(websocket)

    await forget()


class Room:
    """What a class keeps for all clients."""

    async def serve(self, websocket: Any) -> None:
        """Serve one."""


def closed_over() -> Callable[[Any], Any]:
    """A handler whose set is around it."""
    members: set[Any] = set()

    async def handler(websocket: Any) -> None:
        members.add(websocket)

    return handler


async def with_a_store(store: Any, websocket: Any) -> None:
    """What it keeps is given to it."""


def make_app() -> FastAPI:
    """Make an application, which begins with nothing."""
    return FastAPI()


@pytest.mark.parametrize("target", [deep, inner, Room().serve, closed_over(), partial(with_a_store, {}), FastAPI()])
def test_what_is_kept_is_found(target: Any) -> None:
    """In the module, in an object, around the function, among its arguments, in the application."""
    assert keeps_state(target)


@pytest.mark.parametrize(
    "target", [plain, partial(with_a_store, 3), make_app, handlers.websockets_echo, "module:name", labkit.resource]
)
def test_what_begins_anew_is_played_side_by_side(target: Any) -> None:
    """Nothing of it is shared."""
    assert not keeps_state(target)
