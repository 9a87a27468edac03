"""The doctor looks at the browser's WebSocket: the notebook's page, or a page of its own."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import ipykernel.connect
import pytest
from aiohttp import web

from labkit.doctor.browser import watch_a_page, watch_this_page
from labkit.doctor.report import Diagnosis

Visit = Callable[[aiohttp.ClientSession, str], Awaitable[None]]


async def visited(visit: Visit) -> Diagnosis:
    """What the doctor finds when something other than a browser opens its page."""
    visits = []

    async def go(address: str) -> None:
        async with aiohttp.ClientSession() as session:
            await visit(session, address)

    finding = await watch_a_page(lambda address: visits.append(asyncio.create_task(go(address))))
    await asyncio.gather(*visits)
    return finding


async def load(session: aiohttp.ClientSession, address: str) -> str:
    """Get the page."""
    async with session.get(address) as answer:
        assert answer.content_type == "text/html"
        return await answer.text()


async def test_a_page_whose_websocket_works() -> None:
    """It sends a text, has it back, closes with 1000, and says which program it is."""

    async def visit(session: aiohttp.ClientSession, address: str) -> None:
        assert "/echo" in await load(session, address)
        async with session.ws_connect(f"{address}echo") as ws:
            await ws.send_str("echo 0.5")
            assert await ws.receive_str() == "echo 0.5"
            await ws.close(code=1000, message=b"Netscape/4.0")

    assert await visited(visit) == Diagnosis(
        "browser", "ok", "a text went to and fro over its WebSocket (Netscape/4.0)"
    )


async def test_a_page_that_got_another_text() -> None:
    """It closes with 4000: something on the way changes what passes."""

    async def visit(session: aiohttp.ClientSession, address: str) -> None:
        await load(session, address)
        async with session.ws_connect(f"{address}echo") as ws:
            await ws.close(code=4000)

    finding = await visited(visit)
    assert (finding.ok, "ended with 4000" in finding.found, "proxy" in finding.mend) == ("bad", True, True)


async def test_a_page_whose_websocket_is_refused() -> None:
    """The page says so over HTTP, which still works."""

    async def visit(session: aiohttp.ClientSession, address: str) -> None:
        await load(session, address)
        async with session.get(f"{address}failed"):
            pass

    finding = await visited(visit)
    assert (finding.ok, "refused" in finding.found) == ("bad", True)


async def test_a_page_whose_websocket_never_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor any word of it: the wait has an end."""
    monkeypatch.setattr("labkit.doctor.browser.PATIENCE", 0.2)

    async def visit(session: aiohttp.ClientSession, address: str) -> None:
        await load(session, address)

    finding = await visited(visit)
    assert (finding.ok, finding.found) == ("bad", "the page was loaded, and its WebSocket never came")


async def test_nobody_opens_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """That tells nothing about a browser."""
    monkeypatch.setattr("labkit.doctor.browser.PATIENCE", 0.1)
    assert (await watch_a_page(lambda _: None)).ok == "unknown"


@pytest.mark.browser
async def test_a_real_browser(browser_program: str, tmp_path: Path) -> None:
    """Chromium runs the page's script, and its WebSocket comes."""
    flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}"]
    started = []

    def show(address: str) -> None:
        quiet = asyncio.subprocess.DEVNULL
        started.append(
            asyncio.create_task(
                asyncio.create_subprocess_exec(browser_program, *flags, address, stdout=quiet, stderr=quiet)
            )
        )

    try:
        finding = await watch_a_page(show)
        assert (finding.ok, "Chrome/" in finding.found) == ("ok", True)
    finally:
        process = await started[0]
        process.terminate()
        await process.wait()


async def asked(answer: web.Response, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Diagnosis:
    """What the doctor finds in a kernel whose Jupyter server answers so."""

    async def kernel(request: web.Request) -> web.Response:
        assert request.match_info["id"] == "the-id"
        return answer if request.headers["Authorization"] == "token secret" else web.Response(status=403)

    app = web.Application()
    app.router.add_get("/base/api/kernels/{id}", kernel)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        (tmp_path / f"jpserver-{os.getpid()}.json").write_text(
            json.dumps({"url": f"http://127.0.0.1:{runner.addresses[0][1]}/base/", "token": "secret"})
        )
        monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path))
        monkeypatch.setenv("JPY_PARENT_PID", str(os.getpid()))
        monkeypatch.setattr(ipykernel.connect, "get_connection_file", lambda: "/somewhere/kernel-the-id.json")
        return await watch_this_page()
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("count", "ok", "says"), [(0, "unknown", "no page"), (1, "ok", "a WebSocket is"), (2, "ok", "2 WebSockets are")]
)
async def test_the_server_counts(
    count: int, ok: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server that started the kernel knows how many WebSockets are open to it."""
    finding = await asked(web.json_response({"connections": count}), tmp_path, monkeypatch)
    assert (finding.ok, says in finding.found) == (ok, True)


async def test_a_server_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then it is not known; the report goes on."""
    finding = await asked(web.Response(status=404), tmp_path, monkeypatch)
    assert (finding.ok, "404" in finding.found) == ("unknown", True)


async def test_a_kernel_without_a_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program may run a notebook without one: no page is there to look at."""
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr(ipykernel.connect, "get_connection_file", lambda: "kernel-the-id.json")
    assert (await watch_this_page()).found == "no page is connected to this kernel"


async def test_where_no_kernel_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal has no page; the report says how to try one."""
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    finding = await watch_this_page()
    assert (finding.ok, finding.mend) == ("unknown", "In a terminal: labkit doctor --browser")
