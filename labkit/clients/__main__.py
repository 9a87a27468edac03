"""The child's side of a client in a process of its own; see :mod:`labkit.clients.process`."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from typing import Any, Final

from labkit.client import Client as OwnClient
from labkit.clients import check_client, make_client
from labkit.clients.library import LibraryClient
from labkit.clock import now
from labkit.timeline import Data, Lane, Timeline

#: The longest command, in bytes: a message of the user's, as JSON.
LINE: Final = 1 << 30


def say(line: list[Any]) -> None:
    """Write a line for the parent, at once."""
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


class Reporting(Timeline):
    """A timeline that tells the parent of each event, with the clock's own reading."""

    def record(self, lane: Lane, kind: str, text: str = "", data: Data = {}) -> None:  # noqa: B006 - never changed
        """Report an event."""
        assert lane == "client"
        say([now(), kind, text, dict(data)])


async def live(name: str, url: str, options: dict[str, Any]) -> None:
    """Connect, and do what the parent says until it says nothing more."""
    check_client(name, options)  # which imports the library, before anybody counts the time
    client: Any = make_client(name, url, Reporting(), options)
    commands = asyncio.StreamReader(limit=LINE)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    try:
        say(["alive"])
        async for line in commands:
            match json.loads(line):
                case ["connect"]:
                    say(["connected", await client.connect()])
                case ["send", text, True]:
                    client.send(text)
                case ["send", payload, False]:
                    client.send(bytes.fromhex(payload))
                case ["close", code, reason]:
                    client.close(code, reason)
    finally:
        if isinstance(client, LibraryClient):
            await client.leave()
        else:
            assert isinstance(client, OwnClient)  # which leaves its socket to the operating system


def main() -> None:
    """Run as a program of that kind does: on Ctrl+C ``asyncio.run`` cancels it, and the process ends by the signal."""
    # A shell starts what runs in its background with SIGINT ignored, and a child inherits that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        asyncio.run(live(*json.loads(sys.argv[1])))
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)


if __name__ == "__main__":
    main()
