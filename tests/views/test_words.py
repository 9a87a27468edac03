"""The few words that stand beside an event's mark."""

from __future__ import annotations

import pytest

from labkit.timeline import Event
from labkit.views.words import label


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (Event(0, "wire", "fault", "close(code=4000, reason='out of coffee')", {"fault": "close"}), "fault: close"),
        (
            Event(0, "client", "ended", "connection ended: websockets.exceptions.ConnectionClosedError: x", {}),
            "ended: ConnectionClosedError: x",
        ),
        (Event(0, "client", "error", "aiohttp.ClientError: no route to a.b.c", {}), "ClientError: no route to a.b.c"),
        (Event(0, "loop", "shutdown", "the shutdown begins", {"done": False}), "the shutdown begins"),
    ],
)
def test_a_label_is_short(event: Event, words: str) -> None:
    """A fault's knobs are in the title, and the modules of exceptions in the text view: the lanes are narrow."""
    assert label(event) == words
