"""A handler on another version of its library, installed and played for real."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

import labkit
from labkit.errors import BadHandler, BadValue, LabError, UnknownName
from labkit.events import HandlerStart

CLOSING = 0.01


async def naive(request: web.Request) -> web.WebSocketResponse:
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    database = await labkit.resource("database", closing=CLOSING).open()
    async for message in ws:
        await ws.send_str(message.data)
    await database.close()
    return ws


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("platformdirs.user_cache_path", lambda _: tmp_path)
    return tmp_path / "versions"


def folders(cache: Path) -> dict[str, int]:
    """What is installed, and which folder it is."""
    return {path.name: path.stat().st_ino for path in cache.iterdir() if path.is_dir()}


@pytest.mark.slow
@pytest.mark.skipif(sys.version_info >= (3, 13), reason="aiohttp 3.8.1 imports cgi, which Python 3.13 has no more")
async def test_the_original_bug_lives(cache: Path) -> None:
    """The version of which the old posts tell cancels the handler; the one that is installed here does not."""
    then = await labkit.time_machine("aiohttp==3.8.1", naive, fault="fin")
    now = await labkit.play(naive, fault="fin")
    libraries = [run.timeline.all(HandlerStart)[0].library for run in (then, now)]
    assert libraries[0] == "aiohttp 3.8.1"
    assert libraries[1] != libraries[0]
    assert [(run.verdict.ending, run.verdict.cleanup) for run in (then, now)] == [
        ("cancelled", "missing"),
        ("returned", "complete"),
    ]
    installed = folders(cache)
    await labkit.time_machine("aiohttp==3.8.1", naive)
    assert folders(cache) == installed  # once is enough


@pytest.mark.slow
@pytest.mark.skipif(sys.version_info < (3, 13), reason="it runs on this Python")
async def test_a_version_that_does_not_run_on_this_python_is_told_in_one_sentence(cache: Path) -> None:
    """With what Python says of it."""
    with pytest.raises(
        LabError, match=r"aiohttp==3\.8\.1 on Python 3\.\d+ did not play: ModuleNotFoundError"
    ) as raised:
        await labkit.time_machine("aiohttp==3.8.1", naive)
    assert "\n" not in str(raised.value)


@pytest.mark.slow
async def test_a_version_that_does_not_exist_leaves_nothing(cache: Path) -> None:
    """One sentence, and no folder that a later call would take for the version."""
    with pytest.raises(LabError, match=r"aiohttp==0\.0\.9 cannot be installed here: ") as raised:
        await labkit.time_machine("aiohttp==0.0.9", naive)
    assert "\n" not in str(raised.value)
    assert folders(cache) == {}


async def test_a_cache_that_cannot_be_written_is_told_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file stands where the folder should be."""
    (tmp_path / "versions").write_text("")
    monkeypatch.setattr("platformdirs.user_cache_path", lambda _: tmp_path)
    with pytest.raises(LabError, match=r"cannot be installed into .*versions: "):
        await labkit.time_machine("aiohttp==3.8.1", naive)


@pytest.mark.parametrize(
    ("arguments", "error", "sentence"),
    [
        (("aiohttp", naive), BadValue, "the version is 'aiohttp'; it takes one such as 'aiohttp==3.8.1'"),
        (("aiohttp>=3", naive), BadValue, "the version is 'aiohttp>=3'"),
        (("requests==2.0", naive), BadValue, "the version is 'requests==2.0'"),
        ((3, naive), BadValue, "the version is 3"),
        (("aiohttp==3.8.1", naive, "websockets"), BadValue, "the stack is 'websockets', which is not of aiohttp"),
        (("aiohttp==3.8.1", naive, "aiohttp", "rest"), UnknownName, "rest"),
        (("aiohttp==3.8.1", print), BadHandler, "takes functions under their own names"),
    ],
)
async def test_what_it_cannot_do_is_told_before_anything_is_installed(
    arguments: tuple[Any, ...], error: type[Exception], sentence: str
) -> None:
    """In one sentence, with what would do."""
    with pytest.raises(error) as raised:
        await labkit.time_machine(*arguments)
    assert sentence in str(raised.value)
