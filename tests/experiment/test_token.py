"""A moment that a strip has found is one short string, from which anybody plays it again."""

from __future__ import annotations

import asyncio
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette

import labkit
from labkit.errors import BadValue
from labkit.events import WireFault
from labkit.experiment.token import import_name, make_token
from tests.experiment.test_moments import charged_is_written, order

APP = Starlette()

SHOP = """
import asyncio
import labkit
from aiohttp import web

async def order(request):
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    async for _ in ws:
        labkit.note("charged")
        await asyncio.sleep(0)
        labkit.note("written")
    return ws
"""


async def test_a_broken_moment_is_shown_again() -> None:
    """The strip prints its token; the token gives the same run, and nothing else is needed for it."""
    strip = await labkit.moments(
        order,
        on="aiohttp-cancel",
        fault=labkit.TruncatedFrame(then="reset"),
        holds=charged_is_written,
        messages=(b"two",),
    )
    [command] = [line for line in str(strip).splitlines() if "labkit replay" in line]
    token = command.split()[-1]
    assert token == strip.outcomes[0].strikes[0].token
    assert len(token) < 120
    run = await labkit.replay(token)
    found = strip[strip.outcomes[0].strikes[0].number]
    assert (run.handler, run.on, run.fault) == (found.handler, found.on, found.fault)
    assert not charged_is_written(run)
    assert run.verdict.lines_never_ran == found.verdict.lines_never_ran
    assert [e.text for e in run.timeline.select("wire", "frame")] == [
        e.text for e in found.timeline.select("wire", "frame")
    ]


def test_an_application_has_the_name_of_the_module_that_made_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It knows the module of its class alone; others have imported it. One that a function has made has no name."""
    (tmp_path / "makes_it").mkdir()
    (tmp_path / "makes_it" / "web.py").write_text("class App: pass\napp = App()\n")
    (tmp_path / "imports_it.py").write_text("from makes_it.web import app\n")
    monkeypatch.syspath_prepend(tmp_path)
    app = import_module("imports_it").app
    monkeypatch.setattr(sys.modules["__main__"], "app", app, raising=False)
    assert import_name(app) == "makes_it.web:app"
    for name in ("imports_it", "makes_it.web", "makes_it"):
        del sys.modules[name]
    assert import_name(APP) == f"{__name__}:APP"
    token = make_token(Starlette(), "asgi", "reset")
    with pytest.raises(
        BadValue, match=r"does not carry target, .*; or in a terminal: labkit replay TOKEN FILE:HANDLER$"
    ):
        labkit.run(labkit.replay(token))


async def test_what_a_token_cannot_carry_is_asked_for() -> None:
    """A handler that stands inside of a test, or in a notebook, is not to be found by its name."""

    async def local(websocket: Any) -> None:
        async for _ in websocket:
            await asyncio.sleep(0)

    token = make_token(local, "websockets", "reset", labkit.Await(2), messages=["x"], close_timeout=object())
    with pytest.raises(BadValue, match=r"does not carry close_timeout and target, .*give it: labkit\.replay"):
        await labkit.replay(token)
    run = await labkit.replay(token, target=local, close_timeout=0.1)
    assert run.verdict.sentence.startswith("reset at await 2: ")


@pytest.mark.parametrize(
    ("token", "sentence"),
    [
        ("reset", "'reset' is not a token of this labkit"),
        (7, "7 is not a token of this labkit"),
        ("lab1-", "is damaged; copy the whole of it"),
        ("lab1-AAAA", "is damaged; copy the whole of it"),
        ("lab1-ä", "is damaged; copy the whole of it"),
        (make_token(order, "aiohttp", "reset", 0.5)[:-3], "is damaged; copy the whole of it"),
    ],
)
async def test_what_is_no_token_gets_one_sentence(token: Any, sentence: str) -> None:
    """Tokens are copied by hand."""
    with pytest.raises(BadValue, match=sentence):
        await labkit.replay(token)


async def test_the_command_plays_it_from_the_handler_s_file(tmp_path: Path) -> None:
    """`labkit moments` prints what `labkit replay` takes, in the folder of the handler; a mended handler may follow."""
    (tmp_path / "shop.py").write_text(SHOP)
    (tmp_path / "strip.py").write_text(
        "import labkit\n"
        "from labkit.support.names import load_name\n"
        "order = load_name('shop.py:order')\n"
        "strip = labkit.run(labkit.moments(order, on='aiohttp-cancel', holds=lambda run: len(run.timeline.select("
        "'handler', 'note')) != 1))\n"
        "print(strip)\n"
    )

    async def said(*arguments: str) -> str:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, *arguments), cwd=tmp_path, stdout=asyncio.subprocess.PIPE
        )
        return (await process.communicate())[0].decode()

    strip = await said("strip.py")
    token = strip.partition("labkit replay ")[2].split()[0]
    again, mended = await asyncio.gather(
        said("-m", "labkit", "replay", token), said("-m", "labkit", "replay", token, "shop.py:order")
    )
    assert "reset at await 2: order on aiohttp-cancel" in again
    assert "charged" in again
    assert "written" not in again
    assert "reset at await 2: order on aiohttp-cancel" in mended


@pytest.mark.parametrize("when", [labkit.Await(2), labkit.Frame(0), labkit.Frame(1), "note: charged", 0.5, "through"])
async def test_a_token_carries_every_kind_of_moment(when: Any) -> None:
    """And the run that it gives has the fault at that moment."""
    played = await labkit.play(order, "aiohttp-cancel", "reset", when=when)
    run = await labkit.replay(make_token(order, "aiohttp-cancel", "reset", when))
    assert run.timeline.all(WireFault)[0].when == played.timeline.all(WireFault)[0].when
