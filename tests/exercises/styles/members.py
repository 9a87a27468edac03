"""A set of connections that everybody shares."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import anyio
from websockets.asyncio.server import ServerConnection, broadcast
from websockets.exceptions import ConnectionClosed
from websockets.protocol import State

from tests.exercises.styles import styles_of

of = styles_of("members")
Members = set[ServerConnection]


class Room:
    async def __call__(self, websocket: ServerConnection, members: Members) -> None:
        members.add(websocket)
        try:
            with suppress(ConnectionClosed):
                async for message in websocket:
                    broadcast(members, message)
        finally:
            members.discard(websocket)


of.right += [Room()]


async def sending(send: Callable[[Iterable[ServerConnection], Any], None], websocket: Any, members: Members) -> None:
    members |= {websocket}
    try:
        async for message in websocket:
            send(members, message)
    except ConnectionClosed:
        pass
    finally:
        members -= {websocket}


of.right += [functools.partial(sending, broadcast)]


@asynccontextmanager
async def membership(websocket: ServerConnection, members: Members) -> AsyncIterator[None]:
    members.add(websocket)
    try:
        yield
    finally:
        members.remove(websocket)


def as_a_member(handler: Callable[[Any, Members], Any]) -> Callable[[Any, Members], Any]:
    @functools.wraps(handler)
    async def run(websocket: ServerConnection, members: Members) -> None:
        async with membership(websocket, members):
            await handler(websocket, members)

    return run


@of.keeps
@as_a_member
async def decorated(websocket: ServerConnection, members: Members) -> None:
    with suppress(ConnectionClosed):
        async for message in websocket:
            broadcast(members, message)


async def send_one(member: ServerConnection, message: Any) -> None:
    with suppress(ConnectionClosed):
        await member.send(message)


@of.keeps
async def in_a_task_group(websocket: ServerConnection, members: Members) -> None:
    async with membership(websocket, members):
        with suppress(ConnectionClosed):
            async for message in websocket:
                async with asyncio.TaskGroup() as group:
                    for member in members:
                        group.create_task(send_one(member, message))


@of.keeps
async def on_an_exit_stack(websocket: ServerConnection, members: Members) -> None:
    async with AsyncExitStack() as stack:
        members.add(websocket)
        stack.callback(members.discard, websocket)
        stack.enter_context(suppress(ConnectionClosed))
        async for message in websocket:
            for member in tuple(members):
                await send_one(member, message)


@of.keeps
async def a_loop_of_recv(websocket: ServerConnection, members: Members) -> None:
    members.update([websocket])
    try:
        while True:
            message = await websocket.recv()
            await asyncio.gather(*(member.send(message) for member in members), return_exceptions=True)
    except ConnectionClosed:
        members.remove(websocket)


@of.keeps
async def in_anyio(websocket: ServerConnection, members: Members) -> None:
    async with membership(websocket, members):
        with suppress(ConnectionClosed):
            async for message in websocket:
                async with anyio.create_task_group() as group:
                    for member in members:
                        group.start_soon(send_one, member, message)


@of.keeps
async def with_a_callback(websocket: ServerConnection, members: Members) -> None:
    members.add(websocket)
    reading = asyncio.create_task(_read(websocket, members))
    reading.add_done_callback(lambda _: members.discard(websocket))
    await asyncio.wait({reading})
    await asyncio.sleep(0)


async def _read(websocket: ServerConnection, members: Members) -> None:
    with suppress(ConnectionClosed):
        async for message in websocket:
            broadcast(members, message)


@of.keeps
async def strikes_off_the_dead_too(websocket: ServerConnection, members: Members) -> None:
    members.add(websocket)
    try:
        async for message in websocket:
            for member in list(members):
                try:
                    await member.send(message)
                except ConnectionClosed:
                    members.discard(member)
    except ConnectionClosed:
        pass
    finally:
        members.discard(websocket)


@of.keeps
async def asks_for_the_state(websocket: ServerConnection, members: Members) -> None:
    async with membership(websocket, members):
        with suppress(ConnectionClosed):
            async for message in websocket:
                for member in [member for member in members if member.state is State.OPEN]:
                    await member.send(message)


@of.breaks("strikes-off")
async def joins_late(websocket: ServerConnection, members: Members) -> None:
    with suppress(ConnectionClosed):
        message = await websocket.recv()
        async with membership(websocket, members):
            broadcast(members, message)
            async for message in websocket:
                broadcast(members, message)


@of.breaks("strikes-off")
async def empties_all(websocket: ServerConnection, members: Members) -> None:
    members.add(websocket)
    with suppress(ConnectionClosed):
        async for message in websocket:
            broadcast(members, message)
    members.clear()


@of.breaks("strikes-off")
async def keeps_the_dead_and_leaves_with_the_living(websocket: ServerConnection, members: Members) -> None:
    members.add(websocket)
    with suppress(ConnectionClosed):
        async for message in websocket:
            broadcast(members, message)
    for member in list(members):
        if member.state is State.OPEN or member is websocket:
            members.discard(member)


@of.breaks("reaches")
async def one_loop_in_one_try(websocket: ServerConnection, members: Members) -> None:
    async with membership(websocket, members):
        with suppress(ConnectionClosed):
            async for message in websocket:
                with suppress(ConnectionClosed):
                    for member in list(members):
                        await member.send(message)


@of.breaks("reaches")
async def gathers_and_gives_up(websocket: ServerConnection, members: Members) -> None:
    async with membership(websocket, members):
        with suppress(ConnectionClosed):
            async for message in websocket:
                await asyncio.gather(*(member.send(message) for member in members))


@of.breaks("reaches")
async def those_of_the_beginning(websocket: ServerConnection, members: Members) -> None:
    async with membership(websocket, members):
        friends = members.copy()
        with suppress(ConnectionClosed):
            async for message in websocket:
                broadcast(friends, message)


@of.breaks("reaches")
async def all_but_oneself(websocket: ServerConnection, members: Members) -> None:
    async with membership(websocket, members):
        with suppress(ConnectionClosed):
            async for message in websocket:
                broadcast(members - {websocket}, message)


@of.breaks("strikes-off")
async def a_new_set(websocket: ServerConnection, members: Members) -> None:
    members.add(websocket)
    with suppress(ConnectionClosed):
        async for message in websocket:
            broadcast(members, message)
    members = members - {websocket}


@of.breaks("nothing-escapes")
async def removes_it_twice(websocket: ServerConnection, members: Members) -> None:
    async with membership(websocket, members):
        try:
            async for message in websocket:
                broadcast(members, message)
        except ConnectionClosed:
            members.remove(websocket)


@of.keeps
async def turns_its_place_over(websocket: ServerConnection, members: Members) -> None:
    members ^= {websocket}
    try:
        async for message in websocket:
            broadcast(members, message)
    except ConnectionClosed:
        pass
    finally:
        members ^= {websocket}


@of.breaks("strikes-off")
async def closes_the_others_too(websocket: ServerConnection, members: Members) -> None:
    async with membership(websocket, members):
        with suppress(ConnectionClosed):
            async for message in websocket:
                broadcast(members, message)
        for member in list(members):
            await member.close()


@of.breaks("nothing-escapes")
async def asks_for_a_name_first(websocket: ServerConnection, members: Members) -> None:
    async with membership(websocket, members):
        broadcast(members, await websocket.recv())
        with suppress(ConnectionClosed):
            async for message in websocket:
                broadcast(members, message)


@of.keeps
async def waits_for_the_end_of_the_dead(websocket: ServerConnection, members: Members) -> None:
    members.add(websocket)
    try:
        async for message in websocket:
            for member in list(members):
                try:
                    await member.send(message)
                except ConnectionClosed:
                    await member.wait_closed()
                    members.discard(member)
    except ConnectionClosed:
        pass
    finally:
        members.discard(websocket)


@of.breaks("reaches")
async def sends_while_others_join(websocket: ServerConnection, members: Members) -> None:
    members.add(websocket)
    try:
        async for message in websocket:
            for member in members:
                with suppress(ConnectionClosed):
                    await member.send(message)
    except ConnectionClosed:
        pass
    finally:
        members.discard(websocket)


@of.breaks("strikes-off")
async def throws_out_the_slow(websocket: ServerConnection, members: Members) -> None:
    async def tell(member: ServerConnection, message: Any) -> None:
        sending = asyncio.ensure_future(member.send(message))
        await asyncio.sleep(0)
        if not sending.done():
            members.discard(member)
        with suppress(ConnectionClosed):
            await sending

    members.add(websocket)
    try:
        async for message in websocket:
            await asyncio.gather(*(tell(member, message) for member in list(members)))
    except ConnectionClosed:
        pass
    finally:
        members.discard(websocket)


@of.breaks("strikes-off")
async def closes_for_everybody(websocket: ServerConnection, members: Members) -> None:
    members.add(websocket)
    try:
        async for message in websocket:
            broadcast(members, message)
    except ConnectionClosed:
        pass
    finally:
        members.discard(websocket)
        for member in list(members):
            await member.close()
