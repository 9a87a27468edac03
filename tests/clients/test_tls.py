"""A server that speaks TLS: which clients can talk to it, and with which options."""

from __future__ import annotations

import ssl
from typing import Any

import pytest

import labkit


async def echo(websocket: Any) -> None:
    async for message in websocket:
        await websocket.send(message)


@pytest.mark.parametrize("client", ["websockets", "aiohttp"])
async def test_a_client_of_a_library_takes_a_context(client: str, tls: ssl.SSLContext) -> None:
    """It is the library's own option; through TLS, the wire sees bytes and no frames."""
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    options = {"ssl": trusting}
    run = await labkit.play(echo, on="websockets", fault="reset", client=client, client_options=options, ssl=tls)
    assert run.verdict.ending == "raised", run
    assert [event.text for event in run.timeline.select("handler", "recv")] == ["'hello'"]
    assert run.timeline.select("wire", "opaque")


async def test_the_own_client_trusts_any_certificate(tls: ssl.SSLContext) -> None:
    """Behind the wire, none has the right name."""
    run = await labkit.play(echo, on="websockets", fault="reset", ssl=tls)
    assert [event.text for event in run.timeline.select("handler", "recv")] == ["'hello'"]
