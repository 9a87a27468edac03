"""Which events are one message."""

from __future__ import annotations

import pytest

from labkit.timeline import Timeline
from labkit.views.sequence.pairing import Message, pair
from tests.views.stories import Story


def indices(message: Message) -> tuple[int | None, int | None, int | None]:
    return message.sent, message.passed, message.arrived


def test_the_nth_sent_is_the_nth_received() -> None:
    """Each message is followed from the sender over the wire to the receiver, in both directions."""
    pairing = pair(Story().said("'a'").said("'b'").events)
    assert [indices(m) for m in pairing.messages if m.source == "client"] == [(0, 1, 2), (6, 7, 8)]
    assert [indices(m) for m in pairing.messages if m.source == "server"] == [(3, 4, 5), (9, 10, 11)]
    assert pairing.on_arrow == {1, 4, 7, 10}


def test_without_a_wire_messages_go_straight() -> None:
    """A timeline of client and handler alone has arrows as well."""
    events = [event for event in Story().said().events if event.lane != "wire"]
    assert [indices(message) for message in pair(events).messages] == [(0, None, 1), (2, None, 3)]


def test_a_message_that_nobody_read_ends_at_the_wire() -> None:
    """Its frame is no tick: it gets a row of its own."""
    story = Story().then("client", "send", "'a'", length=1).framed("client", "'a'")
    pairing = pair(story.events)
    assert [indices(message) for message in pairing.messages] == [(0, 1, None)]
    assert pairing.on_arrow == set()


def test_a_frame_that_nobody_sent_is_not_given_to_the_next_sender() -> None:
    """The first frame comes before anything was sent, so it stays without a sender."""
    story = Story().framed("client", "'x'").then("handler", "recv", "'x'").said("'a'", answer=False)
    assert [indices(message) for message in pair(story.events).messages] == [(None, 0, 1), (2, 3, 4)]


def test_a_message_never_seen_on_the_wire_has_not_arrived() -> None:
    """Where the wire looks on, a later message is not taken for the one that vanished."""
    story = Story().said("'a'", answer=False).then("client", "send", "'b'").then("handler", "recv", "'c'")
    assert indices(pair(story.events).messages[-1]) == (3, None, None)


def test_what_the_wire_made_is_not_the_clients() -> None:
    """An injected frame has no sender, although the client has just sent something."""
    story = Story().then("client", "send", "'a'").framed("client", "'?'", injected=True).framed("client", "'a'")
    assert [indices(message) for message in pair(story.events).messages] == [(None, 1, None), (0, 2, None)]


def test_lost_frames_end_at_the_loss() -> None:
    """A loss takes the frames right before it that are as long together, and what follows it is received."""
    story = Story().said("'a'", answer=False)
    story.then("client", "send", "'bb'").then("client", "send", "'cc'").framed("client", "'bb'").framed(
        "client", "'cc'"
    )
    story.then("wire", "lost", "16 bytes from the client lost", source="client", link=0, length=16)
    story.said("'d'", answer=False)
    pairing = pair(story.events)
    assert [indices(message) for message in pairing.messages] == [(0, 1, 2), (3, 7, None), (4, 7, None), (8, 9, 10)]
    assert [message.lost for message in pairing.messages] == [False, True, True, False]
    assert pairing.merged == {7: 6}


def test_a_loss_takes_no_more_than_its_bytes() -> None:
    """An earlier frame that passed is not counted as lost."""
    story = Story().then("client", "send", "'a'").framed("client", "'a'").framed("client", "'b'")
    story.then("wire", "lost", "7 bytes from the client lost", source="client", link=0, length=7)
    assert pair(story.events).merged == {3: 2}
    assert [message.lost for message in pair(story.events).messages] == [False, True]


def test_a_close_goes_to_the_next_notice() -> None:
    """Not to one that came before."""
    story = Story().struck().noticed().then("client", "close-sent", "Close 1000").closed("client").noticed()
    (message,) = pair(story.events).messages
    assert indices(message) == (2, 3, 4)
    assert message.closing


def test_the_librarys_own_close_has_no_sender() -> None:
    """The handler that never called close() did not send the Close frame."""
    story = Story().closed("server").then("client", "close-received", "Close 1000")
    (message,) = pair(story.events).messages
    assert indices(message) == (None, 0, 1)


def test_binary_messages_are_messages() -> None:
    """As those of text are."""
    story = Story().then("client", "send", "b'a'", opcode="BINARY", length=1).framed("client", "'a'", "BINARY")
    story.then("handler", "recv", "b'a'", opcode="BINARY", length=1)
    assert [indices(message) for message in pair(story.events).messages] == [(0, 1, 2)]


@pytest.mark.parametrize(("length", "head"), [(125, 2), (126, 4), (65_535, 4), (65_536, 10)])
@pytest.mark.parametrize(("source", "mask"), [("client", 4), ("server", 0)])
def test_a_loss_takes_whole_frames(source: str, mask: int, length: int, head: int) -> None:
    """A frame is its payload, its head and a client's mask (RFC 6455 §5.2); a byte less, and it is not the frame."""
    for size, merged in ((length + head + mask, {1: 0}), (length + head + mask - 1, {})):
        story = Story().then("wire", "frame", "TEXT", source=source, opcode="TEXT", length=length, link=0)
        story.then("wire", "lost", f"{size} bytes lost", source=source, link=0, length=size)
        assert pair(story.events).merged == merged


def test_a_frame_that_was_lost_in_pieces_ends_at_the_last_one() -> None:
    """Three bytes, and then the four that complete the frame."""
    story = Story().then("client", "send", "'a'")
    story.then("wire", "lost", "3 bytes from the client lost", source="client", link=0, length=3)
    story.framed("client", "'a'")
    story.then("wire", "lost", "4 bytes from the client lost", source="client", link=0, length=4)
    pairing = pair(story.events)
    assert pairing.merged == {3: 2}
    assert [indices(message) for message in pairing.messages] == [(0, 3, None)]


def test_a_loss_takes_nothing_from_another_connection() -> None:
    """Two clients send; what the second one loses is its own."""
    story = Story()
    for link in (0, 1):
        story.then("wire", "frame", "TEXT 'a'", source="client", opcode="TEXT", length=1, link=link)
    story.then("wire", "lost", "14 bytes from the client lost", source="client", link=1, length=14)
    pairing = pair(story.events)
    assert pairing.merged == {2: 1}
    assert [(message.passed, message.lost) for message in pairing.messages] == [(0, False), (2, True)]


def test_a_message_of_which_a_part_was_lost_ends_at_the_next_loss() -> None:
    """Not at one from before it was sent, and not at a FIN that was withheld."""
    lost = {"source": "client", "link": 0}
    story = Story().then("wire", "lost", "5 bytes from the client lost", length=5, **lost)
    story.then("client", "send", "'long'", opcode="TEXT", length=4000)
    story.then("wire", "lost", "FIN from the client withheld", length=0, what="FIN", **lost)
    story.then("wire", "lost", "100 bytes from the client lost", length=100, **lost)
    [message] = pair(story.events).messages
    assert indices(message) == (1, 3, None)
    assert message.lost


@pytest.mark.parametrize(("opaque", "arrived"), [("client", 2), ("server", None)])
def test_where_the_wire_cannot_read_a_side_its_messages_go_straight(opaque: str, arrived: int | None) -> None:
    """The other side's it can read, so a message that it has not seen has not arrived."""
    story = Story().then("wire", "opaque", "cannot be decoded", source=opaque, link=0)
    story.then("client", "send", "'a'").then("handler", "recv", "'a'")
    assert [indices(message) for message in pair(story.events).messages] == [(1, None, arrived)]


def test_pings_and_closes_go_to_and_from_the_library() -> None:
    """The library answers by itself; the handler's notice, which comes later, is no step of the frame's way."""
    timeline = Timeline()
    for lane, kind, data in (
        ("library", "ping-sent", {"connection": 1}),
        ("wire", "frame", {"link": 0, "source": "server", "opcode": "PING", "length": 0}),
        ("wire", "frame", {"link": 0, "source": "client", "opcode": "PONG", "length": 0}),
        ("library", "pong-received", {"connection": 1}),
        ("client", "close-sent", {"code": 1000}),
        ("wire", "frame", {"link": 0, "source": "client", "opcode": "CLOSE", "length": 2}),
        ("library", "close-received", {"connection": 1, "code": 1000}),
        ("library", "close-sent", {"connection": 1, "code": 1000}),
        ("handler", "notice", {"exception": None, "code": 1000}),
        ("wire", "frame", {"link": 0, "source": "server", "opcode": "CLOSE", "length": 2}),
        ("client", "close-received", {"code": 1000}),
    ):
        timeline.record(lane, kind, kind, data)  # type: ignore[arg-type]
    assert {(m.sent, m.passed, m.arrived) for m in pair(timeline).messages} == {
        (0, 1, None),
        (None, 2, 3),
        (4, 5, 6),
        (7, 9, 10),
    }
