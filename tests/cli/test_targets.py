"""What the command line plays: applications begin anew, and a file's handler and invariant are of one module."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from labkit.cli import main
from labkit.support.names import load_name

#: As FastAPI's own manual writes it: the list of connections and the application stand in the module.
CHAT = """
from fastapi import FastAPI, WebSocket, WebSocketDisconnect

app, active = FastAPI(), []

@app.websocket("/ws")
async def chat(websocket: WebSocket):
    await websocket.accept()
    active.append(websocket)
    try:
        while True:
            text = await websocket.receive_text()
            for each in active:
                await each.send_text(text)
    except WebSocketDisconnect:
        active.remove(websocket)
"""

AIOHTTP = """
from aiohttp import web

routes = web.RouteTableDef()

@routes.get("/ws")
async def echo(request):
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    async for message in ws:
        await ws.send_str(message.data)
    return ws

app = web.Application()
app.add_routes(routes)
"""

SERVER = """
online = set()

async def forgets(websocket):
    online.add(websocket)
    async for message in websocket:
        await websocket.send(message)
    online.discard(websocket)

def nobody_is_online(run):
    left = bool(online)
    online.clear()
    return not left
"""


def told(*arguments: str) -> list[dict[str, object]]:
    done = CliRunner().invoke(main, [*arguments, "--json"])
    assert done.exit_code < 2, done.output
    rows: list[dict[str, object]] = json.loads(done.stdout)
    return rows


def test_an_application_has_nothing_of_an_earlier_play(tmp_path: Path) -> None:
    """A cancel leaves a dead socket in its list; the next fault meets an application that has just been made."""
    (tmp_path / "chat.py").write_text(CHAT, "utf-8")
    target = [f"{tmp_path / 'chat.py'}:app", "--on", "asgi"]
    faults = ["--fault", "cancel", "--fault", "close", "--fault", "reset"]
    rows = told("matrix", *target, *faults, "--option", "path=/ws")
    assert [(row["handler"], row["outcome"]) for row in rows] == [
        ("app", "cancelled"),
        ("app", "clean"),
        ("app", "clean"),
    ]
    rows = told("moments", *target, "--fault", "cancel", "--path", "/ws")
    assert {row["outcome"] for row in rows} == {"cancelled"}


def test_an_application_of_aiohttp_may_be_played_many_times(tmp_path: Path) -> None:
    """One that a file has made runs once, and is frozen then."""
    (tmp_path / "web_app.py").write_text(AIOHTTP, "utf-8")
    target = [f"{tmp_path / 'web_app.py'}:app", "--on", "aiohttp"]
    rows = told("matrix", *target, "--fault", "close", "--fault", "reset", "--option", "path=/ws")
    assert [(row["handler"], row["outcome"]) for row in rows] == [("app", "clean"), ("app", "clean")]
    assert {row["outcome"] for row in told("moments", *target, "--path", "/ws")} == {"clean"}


def test_an_application_on_the_wrong_stack_is_one_sentence(tmp_path: Path) -> None:
    """And so is an endpoint that FastAPI gives more than the websocket."""
    (tmp_path / "chat.py").write_text(
        CHAT.replace('"/ws"', '"/{room}/{who}"').replace(": WebSocket)", ": WebSocket, room: str, who: str)")
    )
    for name, on, sentence in [
        ("app", "aiohttp", "takes scope, receive and send, as an ASGI application does: play it on asgi"),
        ("chat", "asgi", "the endpoint 'chat' takes more than the websocket, which its application gives it"),
    ]:
        done = CliRunner().invoke(main, ["play", f"{tmp_path / 'chat.py'}:{name}", "--on", on])
        told_in = " ".join(done.output.split())
        assert (done.exit_code, sentence in told_in) == (2, True), done.output


@pytest.mark.parametrize(("fault", "holds"), [("reset", False), ("close", True)])
def test_an_invariant_looks_into_the_module_of_the_handler(tmp_path: Path, fault: str, holds: bool) -> None:
    """Both stand in one file, which is run once."""
    file = tmp_path / "server.py"
    file.write_text(SERVER, "utf-8")
    rows = told(
        "moments", f"{file}:forgets", "--on", "websockets", "--fault", fault, "--holds", f"{file}:nobody_is_online"
    )
    assert {row["holds"] for row in rows} == {holds}


def test_a_file_that_has_changed_is_run_again(tmp_path: Path) -> None:
    """And one that has not is the same module."""
    file = tmp_path / "changing.py"
    file.write_text("def f(): return 1", "utf-8")
    first = load_name(f"{file}:f")
    assert load_name(f"{file}:f") is first
    assert load_name(f"{file}:f", anew=True) is not first
    file.write_text("def f(): return 22", "utf-8")
    assert load_name(f"{file}:f")() == 22
