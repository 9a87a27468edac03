"""The program of a client in a process of its own: the child of :mod:`labkit.clients.process`."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from typing import Any, Final

from labkit.clients import Request, check_client, make_client
from labkit.clients.library import LibraryClient
from labkit.clients.own import OwnClient
from labkit.clients.template import FORK, fork_clients
from labkit.events import Event
from labkit.support.clock import now
from labkit.timeline import Timeline

#: The longest command, in bytes. A command holds a message of the user, as JSON.
LINE: Final = 1 << 30


def report(line: list[Any]) -> None:
    """Write a line for the parent, at once."""
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def report_message(message: str | bytes) -> None:
    """Tell the parent what has come."""
    text = isinstance(message, str)
    report(["message", message if isinstance(message, str) else message.hex(), text])


class Reporting(Timeline):
    """A timeline that reports each event to the parent, with the clock's reading."""

    def append(self, event: Event) -> None:
        """Report an event."""
        assert event.lane == "client"
        report([now(), event.kind, event.text, event.data])


async def run() -> None:
    """Connect, and obey the parent's commands until its pipe is closed; the first tells the client and its server."""
    commands = asyncio.StreamReader(limit=LINE)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    if not (first := await commands.readline()):
        return
    name, url, options, request = json.loads(first)
    check_client(name, options)  # this imports the library, before the parent begins to measure time
    client: Any = make_client(name, url, Reporting(), options, request=Request(**request))
    try:
        report(["alive"])
        async for line in commands:
            match json.loads(line):
                case ["connect", tells]:
                    client.on_message = report_message if tells else None
                    report(["connected", await client.connect()])
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
            assert isinstance(client, OwnClient)  # the operating system closes its socket


def main() -> None:
    """Run like any asyncio program: on Ctrl+C, ``asyncio.run`` cancels it, and then the signal ends the process."""
    # A shell starts background jobs with SIGINT ignored, and a child process inherits that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if sys.argv[1:2] == [FORK]:
        check_client(sys.argv[2], {})  # this imports the library, once for all
        fork_clients()
    try:
        asyncio.run(run())
    except KeyboardInterrupt:
        # End by the signal itself, so that the parent sees SIGINT and not an exit status.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)


if __name__ == "__main__":
    main()
