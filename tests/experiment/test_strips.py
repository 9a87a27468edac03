"""Several faults and stacks at each moment of a handler."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import labkit
from labkit.errors import BadValue, LabError, UnknownName
from tests.experiment.test_moments import charged_is_written, order


async def endpoint(scope: Any, receive: Any, send: Any) -> None:
    """The same shop as an ASGI application."""
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] != "websocket.disconnect":
        labkit.note("charged")
        await asyncio.sleep(0)
        labkit.note("written")
        await send({"type": "websocket.send", "text": message["text"]})


async def test_each_pair_has_the_strip_that_it_has_alone() -> None:
    """A mapping has a handler for each library; text, picture, table and rows tell all pairs."""
    strips = await labkit.moments(
        {"aiohttp": order, "asgi": endpoint},
        on=["aiohttp-cancel", "asgi"],
        fault=["reset", labkit.Close(code=4000)],
        holds=charged_is_written,
    )
    assert [(strip.fault, strip.on) for strip in strips] == [
        ("reset", "aiohttp-cancel"),
        ("close(code=4000)", "aiohttp-cancel"),
        ("reset", "asgi"),
        ("close(code=4000)", "asgi"),
    ]
    alone = await labkit.moments(order, on="aiohttp-cancel", fault="reset", holds=charged_is_written)
    here = strips["reset", "aiohttp-cancel"]
    assert [strike.key for strike in here.strikes] == [strike.key for strike in alone.strikes]
    assert strips["close", "asgi"].source[1].startswith("async def endpoint")
    assert len(strips.rows()) == sum(map(len, strips))
    assert {(row["fault"], row["stack"]) for row in strips.rows()} == {(strip.fault, strip.on) for strip in strips}

    bundle = strips._repr_mimebundle_()
    assert "reset on aiohttp-cancel: broken at await 3" in bundle["text/plain"]
    assert f"labkit replay {here.outcomes[0].strikes[0].token}" in bundle["text/plain"]
    for told in ("broken", "close(code=4000) on asgi", "<table"):
        assert told in bundle["text/html"]


async def test_a_mistake_of_several_is_told_in_one_sentence() -> None:
    """A list that is empty, a library without a handler, a pair that is not there."""
    with pytest.raises(BadValue, match=r"on=\[\]; it takes one or more"):
        await labkit.moments(order, on=[])
    with pytest.raises(BadValue, match="there is no handler for websockets; the target has 'aiohttp'"):
        await labkit.moments({"aiohttp": order}, on=["websockets"])
    with pytest.raises(UnknownName, match="stack"):
        await labkit.moments(order, on=["aiohtp"])
    strips = await labkit.moments(order, fault=["reset"])
    with pytest.raises(UnknownName, match="fault"):
        strips["close", "aiohttp"]
    with pytest.raises(LabError, match="a strip has two names"):
        strips["reset"]  # type: ignore[index] # the mistake
