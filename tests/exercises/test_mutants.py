"""Each mutant of a solution that a plain server and a raw socket show to be wrong is caught by its exercise."""

from __future__ import annotations

import ast
import asyncio
import copy
import linecache
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
from aiohttp import web

import labkit
from tests.differential.peer import CLOSE, Peer, frame, wait
from tests.differential.plain import running
from tests.differential.story import seconds


async def _half_a_frame(peer: Peer) -> None:
    await peer.send(frame(CLOSE, b"\x03\xe8", announced=20))
    peer.fin()


#: How a client may leave, with what it does on its socket.
LEAVE: dict[str, Callable[[Peer], Awaitable[None]]] = {
    "1000": lambda peer: peer.close(),
    "1001": lambda peer: peer.close(b"\x03\xe9"),
    "no code": lambda peer: peer.close(b""),
    "1002": lambda peer: peer.close(b"\x03\xea"),
    "1011": lambda peer: peer.close(b"\x03\xf3"),
    "4000": lambda peer: peer.close(b"\x0f\xa0"),
    "reset": lambda peer: asyncio.sleep(0, peer.reset()),
    "fin": lambda peer: asyncio.sleep(0, peer.fin()),
    "half a frame": _half_a_frame,
}
NORMAL = ("1000", "1001", "no code")


class Goal(NamedTuple):
    """The goal of an exercise, as a plain server can see it: its stack, and what is noted at a normal end, or not."""

    on: str
    left: str
    lost: str


GOALS = {"goodbye": Goal("aiohttp", "bye", "lost"), "recv": Goal("websockets", "left", "lost")}
MESSAGES = ("hello", "again")


# --- Mutants ---------------------------------------------------------------------------------------------------------


def mutants(source: str) -> Iterator[tuple[str, str]]:
    """Change one thing in a handler: yield what was changed, and the new source."""
    tree = ast.parse(source)
    seen = {ast.unparse(tree)}
    for number, node in enumerate(ast.walk(tree)):
        for what, change in _changes(node):
            mutant = copy.deepcopy(tree)
            change(list(ast.walk(mutant))[number])
            text = ast.unparse(ast.fix_missing_locations(mutant))
            if text not in seen:
                seen.add(text)
                yield f"line {getattr(node, 'lineno', 0)}: {what}", text


def _changes(node: ast.AST) -> Iterator[tuple[str, Callable[[Any], None]]]:
    for field, value in ast.iter_fields(node):
        if isinstance(value, ast.Await):
            yield "without await", lambda it, field=field: setattr(it, field, getattr(it, field).value)
        if field in {"body", "orelse", "finalbody"} and isinstance(value, list) and not isinstance(node, ast.Module):
            for at, statement in enumerate(value):
                yield f"without {ast.unparse(statement)!r}", lambda it, f=field, at=at: _drop(getattr(it, f), at)
                if at:
                    yield "in another order", lambda it, f=field, at=at: _swap(getattr(it, f), at)
    match node:
        case ast.Try(handlers=[_, _, *_]):
            yield "branches in another order", lambda it: it.handlers.reverse()
            for at in range(len(node.handlers)):
                yield f"without except {at}", lambda it, at=at: it.handlers.pop(at)
        case ast.ExceptHandler(type=ast.expr()):
            for kind in ("Exception", "ConnectionError", "ConnectionClosed", "ConnectionClosedError", "TimeoutError"):
                yield f"except {kind}", lambda it, kind=kind: setattr(it, "type", ast.Name(kind))
        case ast.Tuple(elts=[_, _, *_]):
            for at in range(len(node.elts)):
                yield f"narrower by {at}", lambda it, at=at: it.elts.pop(at)
            for code in (1002, 1006, 1011, 4000):
                yield f"wider by {code}", lambda it, code=code: it.elts.append(ast.Constant(code))
        case ast.IfExp():
            yield "the other way round", _turn
        case ast.Constant(value=str(word)):
            yield "another word", lambda it, word=word: setattr(it, "value", f"{word}!")


def _drop(body: list[ast.stmt], at: int) -> None:
    body[at] = ast.Pass()


def _swap(body: list[ast.stmt], at: int) -> None:
    body[at - 1], body[at] = body[at], body[at - 1]


def _turn(choice: ast.IfExp) -> None:
    choice.body, choice.orelse = choice.orelse, choice.body


def build(name: str, source: str, **others: Any) -> Any:
    """Make the handler from its source, in the names of the exercise's own module, and others."""
    solution: Any = labkit.EXERCISES[name].solution
    names = {**vars(sys.modules[solution.__module__]), **others}
    file = f"<mutant {abs(hash(source))}>"
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    exec(compile(source, file, "exec"), names)
    return names["my_handler"]


# --- The oracle ------------------------------------------------------------------------------------------------------


async def is_wrong(name: str, source: str) -> str:
    """Say what a plain server and a raw socket see of a handler that breaks the goal; "" if nothing."""
    for leaves in LEAVE:
        if fault := await _breaks(name, source, leaves):
            return f"{leaves}: {fault}"
    return ""


async def _breaks(name: str, source: str, leaves: str) -> str:
    goal, notes, ends = GOALS[name], list[str](), list[str]()
    bell = asyncio.Event()
    handler = build(name, source, labkit=SimpleNamespace(note=notes.append))

    async def call(connection: Any) -> Any:
        result: Any = None
        try:
            result = await handler(connection)
        except BaseException as error:
            ends.append(type(error).__name__)
            raise
        finally:
            if not ends:
                forgotten = goal.on == "aiohttp" and not isinstance(result, web.StreamResponse)
                ends.append("no response" if forgotten else "")
            bell.set()
        return result

    async with running(call, goal.on, {}) as server:
        peer = Peer(server.port, bell)
        try:
            await peer.connect()
            for message in MESSAGES:
                await peer.say(message)
            answers = peer.answers
            await LEAVE[leaves](peer)
            await wait(bell, lambda: bool(ends), seconds(2))
        except AssertionError:  # no handshake
            return "it does not open"
        finally:
            peer.end()
    said = goal.left if leaves in NORMAL else goal.lost
    if answers != len(MESSAGES):
        return f"{answers} answers"
    if ends != [""]:
        return f"it ends by {ends}"
    return "" if notes == [said] else f"it notes {notes}"


# --- The tests -------------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path))


async def accepted(name: str, every: int) -> tuple[list[str], int]:
    """Put mutants to the oracle and to the grader; list the wrong ones that pass, and count the wrong ones."""
    few, missed, wrong = asyncio.Semaphore(3), list[str](), 0

    async def put(what: str, source: str) -> None:
        nonlocal wrong
        async with few:
            fault = await is_wrong(name, source)
            if fault:
                wrong += 1
                if (await labkit.check(name, build(name, source))).passed:
                    missed.append(f"{what} ({fault})\n{source}")

    source = labkit.EXERCISES[name].solution_source
    await asyncio.gather(*(put(*mutant) for mutant in list(mutants(source))[::every]))
    return missed, wrong


@pytest.mark.parametrize("name", GOALS)
async def test_the_oracle_finds_nothing_wrong_with_the_solution(name: str) -> None:
    """Or it would prove nothing."""
    assert await is_wrong(name, labkit.EXERCISES[name].solution_source) == ""


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
@pytest.mark.parametrize(
    ("name", "every"),
    [
        *(pytest.param(name, 6, id=f"{name}-sample") for name in GOALS),
        *(
            pytest.param(name, 1, id=f"{name}-all", marks=[pytest.mark.soak, pytest.mark.timeout(600)])
            for name in GOALS
        ),
    ],
)
async def test_each_wrong_mutant_is_caught(name: str, every: int) -> None:
    """Whatever the oracle shows to be wrong."""
    missed, wrong = await accepted(name, every)
    assert not missed, "\n\n".join(missed)
    assert wrong >= 3
