"""Make the picture at the top of the README: python .github/readme.py [FILE]."""

import asyncio
import sys
from pathlib import Path

from aiohttp import web

import labkit


async def echo(request):
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    database = await labkit.resource("database", closing=0.02).open()
    async for message in ws:
        await ws.send_str(message.data)
    await database.close()
    return ws


async def main(target: Path) -> None:
    run = await labkit.play(echo, on="aiohttp-cancel", fault="close")
    run.plot().savefig(target, dpi=144)
    print(run)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("readme.png")))
