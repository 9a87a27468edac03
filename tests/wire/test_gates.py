"""Gates: in which order the wire tells of bytes and passes them on."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from labkit.wire.gates import Gate


@pytest.mark.parametrize(("writable", "then"), [(True, "write"), (False, "lost")])
def test_a_frame_is_told_before_it_can_arrive(writable: bool, then: str) -> None:
    """An end in another thread or process tells of its arrival at once; the wire has told of its passing by then."""
    did: list[str] = []
    end: Any = SimpleNamespace(
        side="client",
        decoder=SimpleNamespace(feed=lambda _: did.append("feed")),
        peer=SimpleNamespace(writable=writable, write=lambda _: did.append("write")),
        link=SimpleNamespace(lost=lambda *_: did.append("lost")),
    )
    Gate(end).data(b"hello")
    assert did == ["feed", then]
