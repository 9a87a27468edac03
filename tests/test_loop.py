"""labkit.run, for callers that are no coroutines."""

from __future__ import annotations

import asyncio
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
