"""Cells to draw, of any number, with every outcome among them."""

from __future__ import annotations

import random
from typing import Any, Final

from labkit.outcome import OUTCOMES, Cell, Outcome
from labkit.verdict import Verdict

STACKS: Final = ("aiohttp", "aiohttp-cancel", "websockets")
HANDLERS: Final = ("after_the_loop", "after_except", "in_finally", "shielded", "awaited_again")

#: Twenty-five faults in eight families.
FAMILIES: Final = {
    "closing": ("close", "going-away", "no-code", "close-then-reset", "ignore-close"),
    "transport": ("fin", "half-close", "reset", "truncated-frame"),
    "silence": ("blackhole", "stalled-reader", "frozen-process"),
    "process": ("sigint", "sigkill"),
    "protocol": ("bad-opcode", "bad-utf8", "too-big", "unmasked-frame"),
    "middlebox": ("idle-timeout",),
    "server": ("shutdown", "handler-error", "blocked-loop", "second-cancel"),
    "handshake": ("handshake-cut", "handshake-hang"),
}

_FINDINGS: Final[dict[Outcome, dict[str, Any]]] = {
    "clean": {},
    "unstarted": {"ending": "unknown", "noticed": "unknown", "cleanup": "unknown"},
    "unstruck": {"struck": False},
    "unknown": {"cleanup": "unknown"},
    "noisy": {"complaints": ("WARNING mine: no",)},
    "cancelled": {"ending": "cancelled", "cleanup": "none"},
    "raised": {"ending": "raised"},
    "outlived": {"cleanup": "outlived"},
    "unaware": {"ending": "running", "noticed": "no"},
    "hangs": {"ending": "running"},
    "unserved": {"others": ("no",)},
    "blocks": {"blocked": 0.3, "blocked_line": 7},
    "leaked": {"leaked": ("task pulse",)},
    "missing": {"cleanup": "missing"},
    "cut": {"cleanup": "truncated"},
}


def cell(word: Outcome, handler: str = "echo", stack: str = "aiohttp", fault: str = "fin", **more: Any) -> Cell:
    """A cell of an outcome."""
    good: dict[str, Any] = {
        "ending": "returned",
        "exception": None,
        "close_code": None,
        "noticed": "yes",
        "noticed_after": 0.001,
        "lines_never_ran": (),
        "cleanup": "complete",
        "leaked": (),
        "complaints": (),
        "client_exception": None,
        "client_close_code": None,
        "sentence": f"{fault}: {handler} on {stack} was <{word}>.",
    }
    family = next((name for name, faults in FAMILIES.items() if fault in faults), "closing")
    found = good | _FINDINGS[word]
    found["others"] = tuple(Verdict(**good | {"ending": "running", "answered": it}) for it in found.get("others", ()))
    return Cell(handler, stack, family, fault, Verdict(**found), **more)


def cells(handlers: int = 5, stacks: int = 3, faults: int = 25) -> list[Cell]:
    """Cells of chance outcomes, the same each time; those of the first handler have all of them in turn."""
    chance = random.Random(7)
    names = [fault for members in FAMILIES.values() for fault in members][:faults]
    return [
        cell(OUTCOMES[n % len(OUTCOMES)] if handler == HANDLERS[0] else chance.choice(OUTCOMES), handler, stack, fault)
        for stack in STACKS[:stacks]
        for handler in HANDLERS[:handlers]
        for n, fault in enumerate(names)
    ]
