"""The browser's WebSocket. A notebook's page needs one to talk to its kernel; some proxies and extensions block it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from labkit.doctor.report import Diagnosis
from labkit.support.clock import scaled

if TYPE_CHECKING:
    from websockets.asyncio.server import ServerConnection
    from websockets.http11 import Request, Response

__all__ = ["watch_a_page", "watch_this_page"]

#: How long a browser may take to start and to load a page, in seconds.
PATIENCE: Final = 60.0

_HOW: Final = "In a terminal: labkit doctor --browser"
_MEND: Final = (
    "Let the browser reach this address without a proxy, and without an extension that blocks WebSockets; "
    "a proxy between you and Jupyter has to pass on the header Upgrade."
)
_PAGE: Final = """<!doctype html><html lang="en"><meta charset="utf-8"><title>labkit doctor</title>
<h1>The browser's WebSocket</h1><p role="status">It is being tried.</p><script>
const says = text => { document.querySelector("p").textContent = text };
const ws = new WebSocket("ws://" + location.host + "/echo");
const word = "echo " + Math.random();
const program = (navigator.userAgent.match(/(Firefox|Chrome|Safari)\\/[\\d.]+/) || ["some browser"])[0];
ws.onopen = () => ws.send(word);
ws.onmessage = event => { says(event.data === word ? "It works. You can close this page." : "It changed the text.");
  ws.close(event.data === word ? 1000 : 4000, program) };
ws.onerror = () => { says("The WebSocket could not be opened."); fetch("/failed") };
</script>"""


async def watch_this_page() -> Diagnosis:
    """Ask the Jupyter server how many WebSockets are open to this kernel.

    Returns:
        The diagnosis; unknown if no page displays this notebook, or if the server does not answer.
    """
    kernel = _kernel_id()
    if kernel is None:
        return Diagnosis("browser", "unknown", "no notebook runs here, so no page is open to look at", _HOW)
    try:
        count = await _connections(kernel)
    except Exception as error:
        found = f"the Jupyter server could not be asked: {type(error).__name__}: {error}".removesuffix(": ")
        return Diagnosis("browser", "unknown", found, _HOW)
    if not count:
        return Diagnosis("browser", "unknown", "no page is connected to this kernel", _HOW)
    pages = "a WebSocket is" if count == 1 else f"{count} WebSockets are"
    return Diagnosis("browser", "ok", f"{pages} open from a page to this kernel, as the Jupyter server counts")


def _kernel_id() -> str | None:
    if "ipykernel" not in sys.modules:
        return None
    from ipykernel.connect import get_connection_file

    try:
        match = re.fullmatch(r"kernel-(.+)\.json", Path(get_connection_file()).name)
    except RuntimeError:  # ipykernel is imported, but no kernel runs
        return None
    return match and match[1]


async def _connections(kernel: str) -> int:
    """Ask the server that started this kernel. The server keeps its address and its token in a file of the user.

    Source: in the Jupyter Server REST API, GET /api/kernels/<id> returns the number of connections.
    """
    from aiohttp import ClientSession, ClientTimeout
    from jupyter_core.paths import jupyter_runtime_dir

    server_file = Path(jupyter_runtime_dir()) / f"jpserver-{os.environ.get('JPY_PARENT_PID')}.json"
    try:
        server: dict[str, Any] = json.loads(server_file.read_text("utf-8"))
    except FileNotFoundError:
        return 0  # the kernel was started by a program, without a server
    token = server["token"] or os.environ.get("JUPYTERHUB_API_TOKEN", "")
    async with (
        ClientSession(timeout=ClientTimeout(scaled(5)), headers={"Authorization": f"token {token}"}) as session,
        session.get(f"{server['url']}api/kernels/{kernel}", raise_for_status=True) as response,
    ):
        return int((await response.json())["connections"])


async def watch_a_page(show: Callable[[str], None]) -> Diagnosis:
    """Open a page in a browser. The page opens a WebSocket to this process, sends a text and waits for its echo.

    Args:
        show: a function that opens an address in a browser.

    Returns:
        The diagnosis; unknown if no browser asked for the page.
    """
    from websockets.asyncio.server import serve
    from websockets.exceptions import ConnectionClosed

    loaded, done = False, asyncio.get_running_loop().create_future()

    def respond(connection: ServerConnection, request: Request) -> Response | None:
        nonlocal loaded
        match request.path:
            case "/":
                loaded = True
                response = connection.respond(HTTPStatus.OK, _PAGE)
                del response.headers["Content-Type"]
                response.headers["Content-Type"] = "text/html; charset=utf-8"
                return response
            case "/echo":
                return None
            case "/failed":
                _settle("its WebSocket was refused before it came here")
                return connection.respond(HTTPStatus.OK, "noted\n")
            case _:
                return connection.respond(HTTPStatus.NOT_FOUND, "not here\n")

    def _settle(problem: str, program: str = "") -> None:
        if not done.done():
            done.set_result((problem, program))

    async def echo(websocket: ServerConnection) -> None:
        try:
            while True:
                await websocket.send(await websocket.recv())
        except ConnectionClosed:
            echoed = websocket.close_code == 1000  # the page closes with 4000 if the text came back changed
            _settle("" if echoed else f"its WebSocket ended with {websocket.close_code}", websocket.close_reason or "")

    try:
        async with serve(echo, "127.0.0.1", 0, process_request=respond) as server:
            show(f"http://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}/")
            async with asyncio.timeout(scaled(PATIENCE)):
                problem, program = await done
    except TimeoutError:
        if not loaded:
            return Diagnosis(
                "browser", "unknown", "no browser asked for the page", "Open the address by hand, in time."
            )
        return Diagnosis("browser", "bad", "the page was loaded, and its WebSocket never came", _MEND)
    except OSError as error:
        return Diagnosis("browser", "unknown", f"no page could be served: {error}", "See loopback.")
    if problem:
        return Diagnosis("browser", "bad", f"the page was loaded, and {problem}", _MEND)
    return Diagnosis("browser", "ok", f"a text went to and fro over its WebSocket ({program})")
