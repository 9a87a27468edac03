"""Which events are one message."""

from __future__ import annotations

from labkit.views.pairing import Message, pair
from tests.views.stories import Story


def indices(message: Message) -> tuple[int | None, int | None, int | None]:
    return message.sent, message.passed, message.arrived


def test_the_nth_sent_is_the_nth_received() -> None:
    """Each message is followed from the sender over the wire to the receiver, in both directions."""
    pairing = pair(Story().said("'a'").said("'b'").events)
    assert [indices(m) for m in pairing.messages if m.source == "client"] == [(0, 1, 2), (6, 7, 8)]
    assert [indices(m) for m in pairing.messages if m.source == "server"] == [(3, 4, 5), (9, 10, 11)]
    assert pairing.ticks == {1, 4, 7, 10}


def test_without_a_wire_messages_go_straight() -> None:
    """A timeline of client and handler alone has arrows as well."""
    events = [event for event in Story().said().events if event.lane != "wire"]
    assert [indices(message) for message in pair(events).messages] == [(0, None, 1), (2, None, 3)]


def test_a_message_that_nobody_read_ends_at_the_wire() -> None:
    """Its frame is no tick: it gets a row of its own."""
    story = Story().then("client", "send", "'a'", length=1).framed("client", "'a'")
    pairing = pair(story.events)
    assert [indices(message) for message in pairing.messages] == [(0, 1, None)]
    assert pairing.ticks == set()


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
