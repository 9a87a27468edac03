"""What does each server of ASGI tell an endpoint, fault by fault? Each cell is measured in this run.

python benchmarks/asgi.py [--fault reset]
"""

from __future__ import annotations

import argparse
import asyncio
from typing import Any

import labkit

STACKS = [name for name in labkit.STACKS if name.startswith("asgi")]


async def endpoint(websocket: Any) -> None:
    """What FastAPI's documentation shows, without its `except`."""
    await websocket.accept()
    while True:
        await websocket.send_text(await websocket.receive_text())


def told(verdict: labkit.Verdict | None) -> str:
    """The code with which the endpoint heard of the end, or what it did instead."""
    if verdict is None:
        return "?"
    if verdict.ending == "unknown":
        return "never called"
    if verdict.ending == "running":
        return "is not told" if verdict.noticed == "no" else "unknown"
    name = (verdict.exception or verdict.ending).partition("(")[0].rpartition(".")[2].partition(":")[0]
    return f"{verdict.close_code or ''} {name}".strip()


async def measure(faults: list[str]) -> None:
    handlers = {"endpoint": dict.fromkeys(STACKS, endpoint)}
    table = await labkit.matrix(handlers, STACKS, faults or None, progress=False)
    cells = {(cell.fault, cell.stack): told(cell.verdict) for cell in table.cells}
    rows = [(fault, *(cells[fault, stack] for stack in STACKS)) for fault in dict.fromkeys(fault for fault, _ in cells)]
    print(labkit.table(("fault", *STACKS), *rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fault", action="append", default=[], help="a fault; without it, all")
    asyncio.run(measure(parser.parse_args().fault))


if __name__ == "__main__":
    main()
