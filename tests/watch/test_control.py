"""Control frames are found in bytes that may be cut anywhere."""

from __future__ import annotations

import random

import pytest
from websockets.frames import Frame, Opcode

from labkit.watch.control import CLOSE, PING, PONG, ControlFrames

Found = list[tuple[int, bytes]]


def frame(opcode: Opcode, payload: bytes, mask: bool) -> bytes:
    """As the websockets library writes it."""
    return Frame(opcode, payload).serialize(mask=mask)


@pytest.mark.parametrize("mask", [True, False], ids=["client", "server"])
@pytest.mark.parametrize("piece", [1, 2, 3, 7, 1000])
def test_control_frames_are_found_between_data_frames_of_every_length(mask: bool, piece: int) -> None:
    """However the bytes are cut; the payloads are those that were sent."""
    stream = b"".join(
        frame(Opcode.TEXT, bytes(length), mask) + frame(Opcode.PING, b"%d" % length, mask)
        for length in (0, 1, 125, 126, 127, 65_535, 65_536)
    )
    stream += frame(Opcode.PONG, b"", mask) + frame(Opcode.CLOSE, b"\x03\xe8bye", mask)
    found: Found = []
    frames = ControlFrames(lambda opcode, payload: found.append((opcode, payload)))
    for start in range(0, len(stream), piece):
        frames.feed(stream[start : start + piece])
    assert found == [
        *((PING, b"%d" % length) for length in (0, 1, 125, 126, 127, 65_535, 65_536)),
        (PONG, b""),
        (CLOSE, b"\x03\xe8bye"),
    ]


def test_nothing_is_read_after_a_close() -> None:
    """No endpoint reads on after it (RFC 6455, section 5.5.1)."""
    found: Found = []
    frames = ControlFrames(lambda opcode, payload: found.append((opcode, payload)))
    frames.feed(frame(Opcode.CLOSE, b"", True) + frame(Opcode.PING, b"late", True))
    frames.feed(frame(Opcode.PING, b"later", True))
    assert found == [(CLOSE, b"")]


@pytest.mark.parametrize(
    "wrong",
    [b"\x89\x7e\x00\x80" + bytes(128), b"\x09\x00", b"\xc9\x00"],
    ids=["a ping of 128 bytes", "a ping in fragments", "a ping with RSV1"],
)
def test_what_the_library_refuses_ends_the_search(wrong: bytes) -> None:
    """A control frame is short, whole, and has no reserved bit (RFC 6455, section 5.5)."""
    found: Found = []
    frames = ControlFrames(lambda opcode, payload: found.append((opcode, payload)))
    frames.feed(wrong + frame(Opcode.PING, b"", False))
    assert found == []


def test_any_bytes_do() -> None:
    """Whatever a client sends, in whatever pieces: never an error."""
    source = random.Random(1)
    for _ in range(500):
        frames = ControlFrames(lambda _, payload: None if len(payload) <= 125 else pytest.fail("too long"))
        for _ in range(20):
            frames.feed(source.randbytes(source.randint(0, 40)))
