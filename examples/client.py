"""A client to be ended: it says hello once a second, until somebody stops it. See server.py."""

from __future__ import annotations

import argparse
import asyncio
import os
from contextlib import suppress

import aiohttp


async def talk(url: str) -> None:
    """Say hello, and print what comes back."""
    async with aiohttp.ClientSession() as session, session.ws_connect(url) as ws:
        while True:
            await ws.send_str("hello")
            print(f"process {os.getpid()} got {await ws.receive_str()!r}", flush=True)
            await asyncio.sleep(1)


def main() -> None:
    """Talk until Ctrl+C."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("url", nargs="?", default="http://127.0.0.1:8080/")
    with suppress(KeyboardInterrupt):
        asyncio.run(talk(parser.parse_args().url))


if __name__ == "__main__":
    main()
