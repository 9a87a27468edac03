"""What each stack tells the echo handler, fault by fault; ``test_table.py`` measures all of it at every run.

A fault is one row, in its family. A row names the stacks that differ, and leaves the others to ``ANY`` and to the stack
that they follow. So a new fault is one row, and a new stack is its line in ``FOLLOWS``, and a word in each row where
it goes its own way: most rows share a few.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple, TypeVar

import labkit
from labkit.cli.arguments import read_fault
from labkit.faults.fault import find_fault
from tests.versions import older

T = TypeVar("T")


class Told(NamedTuple):
    """How the handler ends, ``"returned"``, ``"cancelled"``, ``"running"`` or an exception; and its close code."""

    ending: str
    close_code: int | None = None


ANY: Final = "any stack"

#: Each stack, and the one that speaks for it in a row where it is not named.
FOLLOWS: Final = {"aiohttp": ANY, "aiohttp-cancel": "aiohttp", "websockets": ANY}


def expected(row: Mapping[str, T], on: str) -> T:
    """What a row says of a stack."""
    if on in row:
        return row[on]
    assert on in FOLLOWS, f"{on} is not in the row, and FOLLOWS does not say whom it follows"
    return expected(row, FOLLOWS[on])


def by_stack(row: Mapping[str, T]) -> list[tuple[str, T]]:
    """Each stack with what a row says of it."""
    return [(on, expected(row, on)) for on in labkit.STACKS]


def made(fault: str) -> labkit.Fault:
    """The fault of a row, which may name its knobs."""
    return find_fault(read_fault(fault))


RAISES: Final = "ConnectionClosedError"

#: The handler is told nothing, and goes on.
UNTOLD: Final = {ANY: Told("running")}
#: TCP ends without a Close.
LOST: Final = {
    "aiohttp": Told("returned", 1006),
    "aiohttp-cancel": Told("cancelled"),
    "websockets": Told(RAISES, 1006),
}
#: The library refuses what has come. The echo handler of aiohttp is the one that everybody writes: it answers the
#: ERROR message too, and stumbles.
REFUSED: Final = {"aiohttp": Told("TypeError", 1006), "websockets": Told(RAISES, 1006)}

#: family → fault → what each stack tells its handler.
TABLE: Final[dict[str, dict[str, Mapping[str, Told]]]] = {
    "closing": {
        "close": {ANY: Told("returned", 1000)},
        "close(code=1011)": {"aiohttp": Told("returned", 1011), "websockets": Told(RAISES, 1011)},
        "close(code=4000)": {"aiohttp": Told("returned", 4000), "websockets": Told(RAISES, 4000)},
        "going-away": {ANY: Told("returned", 1001)},
        "no-code": {"aiohttp": Told("returned", 0), "websockets": Told("returned", 1005)},
        "close-at-once": {"aiohttp": Told("returned", 1000), "websockets": Told("ConnectionClosedOK", 1000)},
        "closed-tab": {ANY: Told("returned", 1001)},
        "close-then-reset": {ANY: Told("returned", 1000)},
        "ignore-close": UNTOLD,
    },
    "transport": {
        "fin": LOST,
        "half-close": LOST,
        "reset": LOST,
        "truncated-frame": LOST,
        "truncated-frame(then='reset')": LOST,
    },
    "silence": {
        "blackhole": UNTOLD,
        "blackhole(direction='to-server')": UNTOLD,
        "stalled-reader": UNTOLD,
        "frozen-process": UNTOLD,
    },
    "process": {
        "sigint": LOST,
        "sigkill": LOST,
    },
    "protocol": {
        "bad-opcode": REFUSED,
        "bad-utf8": REFUSED,
        # Before 3.14.1 aiohttp waits for the rest of a frame whose head says that it is too big.
        "too-big": {**REFUSED, "aiohttp": Told("running")} if older("aiohttp", "3.14.1") else REFUSED,
        "unmasked-frame": {"aiohttp": Told("running"), "websockets": Told(RAISES, 1006)},
    },
    "middlebox": {
        "idle-timeout": LOST,
        "idle-timeout(then='fin')": LOST,
        "slow-link": UNTOLD,
    },
    "server": {
        "shutdown": {"aiohttp": Told("running"), "websockets": Told("returned", 1001)},
        "handler-error": {ANY: Told("InducedError")},
        "blocked-loop": UNTOLD,
        "second-cancel": {ANY: Told("cancelled")},
    },
    "handshake": {},
}

#: Where no WebSocket comes about: fault → client → the exception with which it is refused. No handler starts.
HANDSHAKES: Final[dict[str, dict[str, str | None]]] = {
    "handshake-cut": {"aiohttp": "ServerDisconnectedError", "websockets": "InvalidMessage"},
    "handshake-cut(then='reset')": {"aiohttp": "ClientOSError", "websockets": "InvalidMessage"},
    "handshake-hang": {"aiohttp": None, "websockets": None},
    "handshake-refused": {"aiohttp": "WSServerHandshakeError", "websockets": "InvalidStatus"},
    "handshake-refused(status=401)": {"aiohttp": "WSServerHandshakeError", "websockets": "InvalidStatus"},
}
