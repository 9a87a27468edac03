"""Several connections in one view: each has a bar, and each event names its own; where there is one, none is named."""

from __future__ import annotations

from typing import Any

import pytest

from labkit.events import Lane, WireLost, make
from labkit.experiment.run import Run
from labkit.timeline import Timeline
from labkit.verdict import judge
from labkit.views.alt import alt_text
from labkit.views.canvas.ruler import Ruler
from labkit.views.sequence.geometry import columns_of, label_of
from labkit.views.sequence.lifetimes import Remark
from labkit.views.sequence.pairing import pair
from labkit.views.sequence.plan import Plan, plan
from labkit.views.sequence.view import sequence
from labkit.views.text import text
from labkit.views.words import Numbers, ranges
from tests.views.stories import echo_reset

TEXT = {"opcode": "TEXT", "length": 5}


class Stories:
    """Builds a timeline of several connections, event by event; the server counts them the other way round."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.at = 2.0
        self.timeline = Timeline(began=0.0)
        self.lines: list[Any] = []

    def on(self, number: int | None, lane: Lane, kind: str, text: str = "", **data: Any) -> None:
        """Add an event of a connection."""
        self.at += 0.1
        served = {"served": self.served(number)} if number and lane in ("library", "handler", "cleanup") else {}
        numbers = {"connection": number, **served}
        self.lines.append(make(lane, kind, text, data, at=self.at / 1000, numbers=numbers))

    def served(self, number: int) -> int:
        return self.count + 1 - number

    def opened(self, number: int) -> None:
        self.on(number, "client", "connect", "connect ws://127.0.0.1:4711/")
        self.on(number, "wire", "link", "client connected", link=number - 1)
        known = {"handler": "chat", "stack": "aiohttp", "library": "aiohttp 3.14.5", "given": "Request"}
        self.on(number, "handler", "start", "chat starts", call=self.served(number), **known)
        self.on(number, "client", "open", "handshake complete", status=101)

    def frame(self, number: int, source: str) -> None:
        self.on(number, "wire", "frame", "TEXT 'hello'", link=number - 1, source=source, **TEXT)

    def ended(self, number: int, ending: str = "returned") -> None:
        self.on(number, "handler", "end", ending, ending=ending, close_code=1006, call=self.served(number))

    def broadcast(self, number: int, to: range) -> None:
        """Let a client say something, and its handler tell all."""
        self.on(number, "client", "send", "'hello'", **TEXT)
        self.frame(number, "client")
        self.on(number, "handler", "recv", "'hello'", **TEXT)
        for other in to:
            by = {} if other == number else {"by": self.served(number)}
            self.on(other, "handler", "send", "'hello'", **TEXT, **by)
        for other in to:
            self.frame(other, "server")
        for other in to:
            self.on(other, "client", "recv", "'hello'", **TEXT)

    @property
    def told(self) -> Timeline:
        return Timeline.of(self.lines)


def chat(count: int = 2) -> Stories:
    """All connect, the first and the last say something to all, and the first is reset."""
    stories, everybody = Stories(count), range(1, count + 1)
    for number in everybody:
        stories.opened(number)
    for number in sorted({1, count}):
        stories.broadcast(number, everybody)
    stories.on(1, "wire", "fault", "reset", fault="reset", knobs={})
    stories.on(1, "wire", "reset", "RST to the server", link=0, source="wire", to="server")
    stories.on(1, "client", "ended", "connection ended: reset", how="reset", code=None)
    stories.on(1, "handler", "notice", "receive() gave CLOSED", how="receive() gave CLOSED", code=1006)
    if count > 1:
        stories.on(
            1, "handler", "notice", "send_str(): Lost: gone", how="send_str()", exception="Lost: gone", code=1006,
            by=stories.served(2),
        )  # fmt: skip
    stories.ended(1)
    stories.on(None, "loop", "stop", "the lab ends the experiment", patience=2.0)
    for number in everybody[1:]:
        stories.on(number, "handler", "cancelled", "cancelled by the lab", by="the lab", package="labkit")
        stories.ended(number, "cancelled")
        stories.on(number, "client", "ended", "still open when the lab stopped it", how="still-open", code=None)
    return stories


def drawn(count: int, **options: Any) -> Plan:
    return plan(chat(count).told, **options)


@pytest.mark.parametrize("count", [2, 3])
def test_messages_are_paired_within_their_connection(count: int) -> None:
    """All say the same at the same time; an arrow never leads from one connection to another."""
    events = list(chat(count).told)
    messages = pair(events).messages
    assert len(messages) == 2 + 2 * count
    for message in messages:
        steps = [step for step in (message.sent, message.passed, message.arrived) if step is not None]
        assert len(steps) == 3
        assert len({events[step].connection for step in steps}) == 1
        assert steps == sorted(steps)


def test_what_is_lost_is_lost_on_its_connection() -> None:
    """The wire's account of the loss stands behind a frame of another connection."""
    stories = Stories(2)
    for number in (1, 2):
        stories.opened(number)
    for number in (1, 2):
        stories.on(number, "client", "send", "'hello'", **TEXT)
    for number in (1, 2):
        stories.frame(number, "client")
    stories.on(1, "wire", "lost", "11 bytes from the client lost", link=0, source="client", length=11)
    stories.on(2, "handler", "recv", "'hello'", **TEXT)
    events = list(stories.told)
    lost = {message.lost: events[message.sent].connection for message in pair(events).messages if message.sent}
    assert lost == {True: 1, False: 2}
    assert isinstance(events[max(pair(events).merged)], WireLost)


@pytest.mark.parametrize("count", [1, 2, 3, 6])
def test_each_connection_has_a_bar(count: int) -> None:
    """In the client's lane and in the handler's, at the same place in both, whatever the server's number is."""
    picture = drawn(count)
    for lane in ("client", "handler"):
        assert [bar.slot for bar in picture.bars if bar.lane == lane] == list(range(count))
    for mark in picture.marks:
        if mark.lane in ("client", "handler") and count > 1:
            assert mark.label.startswith(f"{mark.slot + 1}: ")


def test_arrows_begin_and_end_at_their_bars() -> None:
    """One message of the broadcast goes to each client."""
    picture = drawn(3)
    arrows = [arrow for arrow in picture.arrows if {arrow.start.lane, arrow.end.lane} == {"client", "handler"}]
    assert len(arrows) == 8
    assert all(arrow.start.slot == arrow.end.slot for arrow in arrows)
    assert sorted(arrow.end.slot for arrow in arrows if arrow.lane == "handler") == [0, 0, 1, 1, 2, 2]


def test_a_connection_that_follows_another_has_its_place() -> None:
    """As of a client that reconnects: one bar below the other."""
    stories = Stories(2)
    for number in (1, 2):
        stories.opened(number)
        stories.ended(number)
        stories.on(number, "client", "ended", "connection ended: FIN", how="fin", code=1000)
    picture = plan(stories.told)
    assert [(bar.lane, bar.slot) for bar in picture.bars] == [("client", 0), ("handler", 0)] * 2


def test_a_label_names_the_connection_and_whose_handler_it_was() -> None:
    """It was another one's handler that sent, or that was told."""
    labels = [mark.label for mark in drawn(2).marks]
    assert labels.count("2: send 'hello', by 1") == labels.count("1: send 'hello', by 2") == 1
    assert labels.count("1: send 'hello'") == 2  # by the client, and by its own handler
    assert "1: Lost: gone, told to 2" in labels
    assert "1: fault: reset" in labels
    assert "the lab ends the experiment" in labels


def test_the_remarks_say_which_are_meant() -> None:
    """Those that the lab found open and running; three in a row are a range."""
    assert Remark(drawn(2).stop or 0, "client", "2 still open") in drawn(2).remarks
    assert Remark(drawn(2).stop or 0, "handler", "2 still running", 1) in drawn(2).remarks
    picture = drawn(5)
    assert Remark(picture.stop or 0, "handler", "2-5 still running", 4) in picture.remarks
    assert [ranges(numbers) for numbers in ([3, 1, 2], [1, 2], [7, 2, 3, 4, 9, 8, 7])] == ["1-3", "1, 2", "2-4, 7-9"]


@pytest.mark.parametrize("count", [2, 3])
def test_labels_are_beside_all_bars_of_their_lane(count: int) -> None:
    """So they have as much room as beside one."""
    picture = drawn(count)
    columns = columns_of(picture, 8.0)
    for mark in picture.marks:
        label = label_of(mark, picture, columns, Ruler(8.0))
        bars = [bar for bar in picture.bars if bar.lane == mark.lane and bar.top <= mark.row <= bar.bottom]
        edges = [columns.x(bar.lane, bar.slot) for bar in bars]
        if label.side == "left":
            assert all(label.x < edge for edge in edges)
        else:
            assert all(label.x > edge for edge in edges)
        assert not any(line.endswith("…") for line in label.lines), mark.label


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("limit", [5, 60])
@pytest.mark.parametrize("count", [1, 2, 3, 20])
def test_it_is_drawn(count: int, limit: int, theme: str) -> None:
    """With few rows and many, few connections and many; the alternative text stays within its limit."""
    timeline = chat(count).told
    picture = sequence(timeline, judge(timeline), theme=theme, limit=limit)
    picture.canvas.draw()
    assert len(alt_text(timeline, judge(timeline))) <= 1200


def test_the_lanes_make_room_for_the_bars() -> None:
    """Beside the last of three bars there is about as much room as beside the only one."""
    rooms = []
    for count in (1, 3):
        columns = columns_of(drawn(count), 8.0)
        rooms.append(columns.lanes["wire"] - columns.x("client", count - 1))
    assert rooms[1] > 0.85 * rooms[0]


def test_with_few_rows_the_handler_of_the_connection_that_was_struck_comes_before_those_of_others() -> None:
    """Also if theirs end next to the fault, which comes first otherwise."""
    stories = Stories(3)
    for number in (1, 2, 3):
        stories.opened(number)
    stories.on(1, "wire", "fault", "reset", fault="reset", knobs={})
    for number in (2, 3, 1):
        stories.ended(number)
        for _ in range(3):
            stories.on(number, "library", "ping-sent", "sends a ping")
    labels = [mark.label for mark in plan(stories.told, limit=5).marks]
    assert {"1: fault: reset", "1: returned"} <= set(labels)
    assert not {"2: returned", "3: returned"} & set(labels)


def test_with_few_rows_the_connection_that_was_struck_comes_first() -> None:
    """The fault, and how that connection's handler ended; what the lab did at the end, last."""
    labels = [mark.label for mark in drawn(3, limit=8).marks]
    assert {"1: fault: reset", "1: returned"} <= set(labels)
    assert not {label for label in labels if "cancelled" in label}


def test_strangers_are_folded_first() -> None:
    """Many of them do not push the client's own events out of the picture."""
    stories = chat(1)
    for number in range(2, 40):
        stories.opened(number)
        stories.on(number, "client", "stranger", "a stranger connects to the wire", to_wire=True, called=True)
        stories.ended(number)
    marks = plan(stories.told, limit=30).marks
    own = [mark.label for mark in drawn(1).marks]
    assert [mark.label.removeprefix("1: ") for mark in marks if mark.label.startswith("1: ")] == own[:-1]


def test_the_text_names_the_connection_beside_the_lane() -> None:
    """And ends with a sentence on each of the others."""
    timeline = chat(2).told
    written = text(timeline, judge(timeline))
    assert "  client 2   ● connect " in written
    assert "'hello', by handler 1" in written
    assert "send_str(): Lost: gone, told to handler 2" in written
    assert "★ fault          reset" in written
    assert "\nconnection 2 reset struck connection 1: chat on aiohttp was still running" in written
    lines = written.splitlines()
    columns = {line.index(sign) for line in lines for sign in "●▲▼" if sign in line}
    assert len(columns) == 1


def test_the_alternative_text_names_the_connection() -> None:
    """In the summary of what was before the fault, and in each sentence."""
    timeline = chat(2).told
    alt = alt_text(timeline, judge(timeline))
    assert "on connection 1 the client sent 1 and received 2 messages" in alt
    assert "; on connection 2 the client sent 1 and received 2 messages" in alt
    assert "Then on connection 1 the fault strikes: reset." in alt
    assert "send_str(): Lost: gone, told to the handler of connection 2." in alt


def test_one_connection_is_told_as_ever() -> None:
    """Whether its events name it or not, as those of an older recording."""
    timeline, verdict = echo_reset().told
    named = Timeline.of(
        make(e.lane, e.kind, e.text, e.data, at=e.at, numbers={"connection": None if e.lane == "loop" else 1})
        for e in timeline
    )
    assert judge(named) == verdict
    assert text(named, verdict) == text(timeline, verdict)
    assert alt_text(named, verdict) == alt_text(timeline, verdict)
    assert plan(named) == plan(timeline)
    assert str(Run("echo", "aiohttp", "reset", named)) == str(Run("echo", "aiohttp", "reset", timeline))


def test_numbers_of_one_name_nothing() -> None:
    """Of several, they name each event's; and whose handler it was, where that is another's."""
    one, two = Numbers(chat(1).told), Numbers(chat(2).told)
    events = list(chat(2).told)
    assert {one.of(event) for event in chat(1).told} == {None}
    assert {two.of(event) for event in events} == {None, 1, 2}
    assert {two.by(event, "handler ") for event in events} == {
        "",
        ", by handler 1",
        ", by handler 2",
        ", told to handler 2",
    }
    assert (one.several, one.width, two.several, two.width, two.clients) == (False, 0, True, 2, [1, 2])
