"""labkit.run, for callers that are no coroutines."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys

import pytest

import labkit
from labkit.errors import BadValue

INSIDE = """
import asyncio, sys
import labkit

async def echo(websocket):
    async for message in websocket:
        await websocket.send(message)

assert not {"nest_asyncio", "nest_asyncio2"} & set(sys.modules)

def callback():
    return labkit.run(labkit.play(echo, on="websockets", fault="close")).verdict.ending

async def main():
    assert callback() == "returned"
    assert {"nest_asyncio", "nest_asyncio2"} & set(sys.modules)
    assert callback() == "returned"
    assert (await labkit.play(echo, on="websockets", fault="close")).verdict.ending == "returned"
    print("it works inside a running loop")

asyncio.run(main())
"""


def test_in_a_script_it_is_asyncio_run() -> None:
    """It returns what the coroutine returns, raises what it raises, and patches nothing."""

    async def returns() -> int:
        return 3

    async def raises() -> None:
        raise ValueError("mine")

    assert labkit.run(returns()) == 3
    with pytest.raises(ValueError, match="mine") as caught:
        labkit.run(raises())
    assert caught.value.__context__ is None
    assert asyncio.run.__module__ == "asyncio.runners"


def test_inside_a_running_loop_it_nests() -> None:
    """Only there and only then is nest-asyncio applied; in a process of its own, since that has no way back."""
    done = subprocess.run([sys.executable, "-c", INSIDE], capture_output=True, text=True, check=False)
    assert done.stdout == "it works inside a running loop\n", done.stderr


@pytest.mark.parametrize("wrong", [3, labkit.run, None])
def test_what_is_no_coroutine_gets_one_sentence(wrong: object) -> None:
    """It says what it takes."""
    with pytest.raises(BadValue, match=r"takes a coroutine, such as labkit.play\(handler\)"):
        labkit.run(wrong)  # type: ignore[arg-type]


PROGRAMS = {
    "what it raises passes": """
import asyncio
import labkit

async def fails():
    raise ValueError("mine")

async def main():
    try:
        labkit.run(fails())
    except ValueError as error:
        print(error)
    async with asyncio.timeout(10):
        await asyncio.sleep(0)
    print(asyncio.current_task().cancelling())

asyncio.run(main())
""",
    "without nest-asyncio": """
import asyncio, sys
import labkit

async def never():
    pass

async def main():
    sys.modules["nest_asyncio"] = sys.modules["nest_asyncio2"] = None
    try:
        labkit.run(never())
    except labkit.LabError as error:
        print(error)

asyncio.run(main())
""",
    "in a loop of another make": """
import asyncio
import labkit

async def never():
    pass

asyncio._set_running_loop(asyncio.AbstractEventLoop())
try:
    labkit.run(never())
except labkit.LabError as error:
    print(error)
""",
}
TOLD = {
    "what it raises passes": r"mine\n0\n",
    "without nest-asyncio": r"a loop is running here; install nest-asyncio2?, or await the coroutine instead\n",
    "in a loop of another make": r"a loop is running here that cannot be made re-entrant \(.*\); await instead\n",
}


@pytest.mark.parametrize("case", PROGRAMS)
def test_where_it_cannot_nest_it_says_so(case: str) -> None:
    """One sentence; and the coroutine is closed, so that nobody is told that it was never awaited."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAMS[case]], capture_output=True, text=True, check=False
    )
    assert re.fullmatch(TOLD[case], done.stdout), done
    assert done.stderr == ""


def test_importing_patches_nothing() -> None:
    """Before the first run() and after every import of the lab's, asyncio is as Python ships it."""
    program = """
import asyncio
before = {name: getattr(asyncio, name) for name in dir(asyncio) if not name.startswith("__")}
import labkit
for name in labkit.__all__:
    getattr(labkit, name)
assert all(getattr(asyncio, name) is value for name, value in before.items())
assert not hasattr(asyncio, "_nest_patched")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
