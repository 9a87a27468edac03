"""A client to be ended: it says hello once a second, until somebody stops it. See server.py."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys

import aiohttp


async def talk(url: str) -> None:
    """Say hello, and print what comes back."""
    async with aiohttp.ClientSession() as session, session.ws_connect(url) as ws:
        await ws.send_str("hello")
        async for message in ws:
            print(f"process {os.getpid()} got {message.data!r}", flush=True)
            await asyncio.sleep(1)
            await ws.send_str("hello")


def main() -> None:
    """Talk until Ctrl+C."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("url", nargs="?", default="http://127.0.0.1:8080/")
    url = parser.parse_args().url
    try:
        asyncio.run(talk(url))
    except KeyboardInterrupt:
        return
    except aiohttp.ClientConnectorError:
        sys.exit(f"nobody listens at {url}: start server.py in another terminal first")
    except aiohttp.ClientConnectionResetError:
        pass  # it has gone while this client slept
    sys.exit("the server is gone")


if __name__ == "__main__":
    main()
