"""A server that speaks TLS: which clients can talk to it, and with which options."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest

import labkit

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")


@pytest.fixture
def server(tmp_path: Path) -> ssl.SSLContext:
    """What a server with a certificate of its own is given."""
    key, certificate = str(tmp_path / "key.pem"), str(tmp_path / "certificate.pem")
    new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=localhost"]
    made = ["openssl", "req", "-x509", *new, "-keyout", key, "-out", certificate]
    subprocess.run(made, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


async def echo(websocket: Any) -> None:
    async for message in websocket:
        await websocket.send(message)


@pytest.mark.parametrize("client", ["websockets", "aiohttp"])
async def test_a_client_of_a_library_takes_a_context(client: str, server: ssl.SSLContext) -> None:
    """It is the library's own option; through TLS, the wire sees bytes and no frames."""
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    options = {"ssl": trusting}
    run = await labkit.play(echo, on="websockets", fault="reset", client=client, client_options=options, ssl=server)
    assert run.verdict.ending == "raised", run
    assert [event.text for event in run.timeline.select("handler", "recv")] == ["'hello'"]
    assert run.timeline.select("wire", "opaque")


async def test_the_own_client_trusts_any_certificate(server: ssl.SSLContext) -> None:
    """Behind the wire, none has the right name."""
    run = await labkit.play(echo, on="websockets", fault="reset", ssl=server)
    assert [event.text for event in run.timeline.select("handler", "recv")] == ["'hello'"]
