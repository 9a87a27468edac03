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
from tests import handlers
from tests.versions import older

T = TypeVar("T")


class Told(NamedTuple):
    """How the handler ends, ``"returned"``, ``"cancelled"``, ``"running"`` or an exception; and its close code."""

    ending: str
    close_code: int | None = None


ANY: Final = "any stack"

#: Each stack, and the one that speaks for it in a row where it is not named.
FOLLOWS: Final = {
    "aiohttp": ANY,
    "aiohttp-cancel": "aiohttp",
    "asgi": ANY,
    "asgi-hypercorn": "asgi",
    "asgi-websockets": "asgi",
    "asgi-wsproto": "asgi",
    "websockets": ANY,
}


def expected(row: Mapping[str, T], on: str) -> T:
    """What a row says of a stack."""
    if on in row:
        return row[on]
    assert on in FOLLOWS, f"{on} is not in the row, and FOLLOWS does not say whom it follows"
    return expected(row, FOLLOWS[on])


def by_stack(row: Mapping[str, T]) -> list[tuple[str, T]]:
    """Each of the usual stacks with what a row says of it; ``test_asgi.py`` plays those of ASGI side by side."""
    return [(on, expected(row, on)) for on in handlers.STACKS]


def made(fault: str) -> labkit.Fault:
    """The fault of a row, which may name its knobs."""
    return find_fault(read_fault(fault))


RAISES: Final = "ConnectionClosedError"

#: The handler is told nothing, and goes on.
UNTOLD: Final = {ANY: Told("running")}
#: TCP ends without a Close.
LOST: Final = {
    "aiohttp": Told("returned", 1006),
    "asgi": Told("returned", 1005),
    "asgi-hypercorn": Told("returned", 1006),
    "asgi-websockets": Told("returned", 1006),
    "aiohttp-cancel": Told("cancelled"),
    "websockets": Told(RAISES, 1006),
}
#: The client's goodbye. Of every goodbye, hypercorn tells the same.
BYE: Final = {"asgi-hypercorn": Told("returned", 1006)}
#: The library refuses what has come. The echo handler of aiohttp is the one that everybody writes: it answers the
#: ERROR message too, and stumbles.
REFUSED: Final = {
    "aiohttp": Told("TypeError", 1006),
    "asgi-hypercorn": Told("returned", 1006),
    "asgi-websockets": Told("returned", 1006),
    "websockets": Told(RAISES, 1006),
}

#: The servers of ASGI take up to 16 MiB.
SMALL: Final = {on: Told("running") for on in ("asgi", "asgi-hypercorn", "asgi-websockets")}
#: Those that look at what has come, not at what the head of a frame says.
COUNTS: Final = {on: Told("running") for on in ("asgi-hypercorn", "asgi-wsproto")}
#: Before 3.14.1 aiohttp waits for the rest of a frame whose head says that it is too big.
WAITS: Final = {"aiohttp": Told("running")} if older("aiohttp", "3.14.1") else {}

#: family → fault → what each stack tells its handler.
TABLE: Final[dict[str, dict[str, Mapping[str, Told]]]] = {
    "closing": {
        "close": {ANY: Told("returned", 1000), **BYE},
        "close(code=1011)": {ANY: Told("returned", 1011), "websockets": Told(RAISES, 1011), **BYE},
        "close(code=4000)": {ANY: Told("returned", 4000), "websockets": Told(RAISES, 4000), **BYE},
        "going-away": {ANY: Told("returned", 1001), **BYE},
        "no-code": {ANY: Told("returned", 1005), "aiohttp": Told("returned", 0), **BYE},
        # An endpoint that sends when the Close has come gets an exception that knows nothing of the code.
        "close-at-once": {
            "aiohttp": Told("returned", 1000),
            "asgi": Told("WebSocketDisconnect", 1006),
            "websockets": Told("ConnectionClosedOK", 1000),
            **BYE,
        },
        "closed-tab": {ANY: Told("returned", 1001), **BYE},
        "close-then-reset": {ANY: Told("returned", 1000), **BYE},
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
        "bad-opcode": {**REFUSED, "asgi": Told("returned", 1002)},
        "bad-utf8": {**REFUSED, "asgi": Told("returned", 1007)},
        "too-big": {**REFUSED, **SMALL, **WAITS},
        "too-big(size=33554432)": {**REFUSED, "asgi": Told("returned", 1009), **COUNTS, **WAITS},
        "unmasked-frame": {**REFUSED, "aiohttp": Told("running"), "asgi": Told("returned", 1002)},
    },
    "middlebox": {
        "idle-timeout": LOST,
        "idle-timeout(then='fin')": LOST,
        "slow-link": UNTOLD,
    },
    "server": {
        "shutdown": {
            "aiohttp": Told("running"),
            "asgi": Told("returned", 1012),
            "asgi-hypercorn": Told("running"),
            "websockets": Told("returned", 1001),
        },
        "handler-error": {ANY: Told("InducedError")},
        "blocked-loop": UNTOLD,
        "cancel": {ANY: Told("cancelled")},
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
