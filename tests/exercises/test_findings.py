"""What the tests of the rules, and the search for bugs, say of runs that are rare in life: told event by event."""

from __future__ import annotations

from typing import Any

import pytest

from labkit.events import Lane, make
from labkit.exercises.bugs import find_bug, find_stray_exception
from labkit.exercises.exercise import Trial
from labkit.exercises.n05_receive_timeout import asks, asks_the_quiet_alone, prompt
from labkit.exercises.punctual import Turns
from labkit.exercises.rules import answers, answers_after, cleans_up, ends, quiet, within
from labkit.exercises.summary import Summary
from labkit.experiment.run import Run
from labkit.timeline import Timeline

CONNECT: tuple[float, Lane, str, str, dict[str, Any]] = (10.0, "client", "connect", "connect", {"client": "labkit"})
START: tuple[float, Lane, str, str, dict[str, Any]] = (
    10.1, "handler", "start", "h starts",
    {"handler": "h", "stack": "aiohttp", "library": "aiohttp 3", "given": "Request", "call": 1},
)  # fmt: skip
FAULT: tuple[float, Lane, str, str, dict[str, Any]] = (
    10.5, "wire", "fault", "reset", {"fault": "reset", "family": "transport", "knobs": {}},
)  # fmt: skip
STOP: tuple[float, Lane, str, str, dict[str, Any]] = (13.0, "loop", "stop", "the lab ends", {"inside": []})


def end(at: float, exception: str | None = None, *, loss: bool = False, induced: bool = False) -> Any:
    ending = "returned" if exception is None else "raised"
    data = {"ending": ending, "exception": exception, "close_code": None, "loss": loss, "induced": induced, "call": 1}
    return at, "handler", "end", ending if exception is None else f"raised {exception}", data


def resource(number: int, name: str, *events: tuple[float, str]) -> list[Any]:
    return [(at, "cleanup", kind, name, {"resource": name, "id": number}) for at, kind in events]


def told(*events: Any, fault: str = "reset") -> Run:
    timeline = Timeline()
    for at, lane, kind, text, data in sorted(events, key=lambda event: event[0]):
        timeline.append_at(at, make(lane, kind, text, data))
    return Run("h", "aiohttp", fault, timeline)


def test_the_resource_that_fared_worst_is_named() -> None:
    """Of several alike the last one."""
    database = resource(1, "database", (10.2, "open"), (10.6, "closing"), (10.9, "closed"))
    cache = resource(2, "cache", (10.2, "open"), (10.6, "closing"), (10.7, "closed"))
    finding = cleans_up(told(CONNECT, START, FAULT, *cache, *database, end(11.0), STOP))
    assert finding.state == "kept"
    assert "`database` was closed at 900 ms" in finding.evidence
    cut = resource(2, "cache", (10.2, "open"), (10.6, "closing"), (10.7, "truncated"))
    finding = cleans_up(told(CONNECT, START, FAULT, *cut, *database, end(11.0), STOP))
    assert finding.state == "broken"
    assert "the closing of `cache` was cut short at 700 ms" in finding.evidence


def test_a_closing_whose_end_nobody_saw() -> None:
    """It outlived the handler, and that is all that is known."""
    database = resource(1, "database", (10.2, "open"), (10.7, "closing"))
    finding = cleans_up(told(CONNECT, START, FAULT, *database, end(10.6), STOP))
    assert finding.state == "broken"
    assert "was not closed" in finding.evidence


def test_of_a_handler_that_never_started_nothing_is_known() -> None:
    """Neither how it ends nor what comes out of it."""
    run = told(CONNECT, FAULT, STOP)
    assert [test(run).state for test in (ends("cancelled"), quiet)] == ["unknown", "unknown"]


def test_a_handler_that_ends_at_once_answers_nobody() -> None:
    """It is not unknown: its client never had its turn."""
    finding = answers(told(CONNECT, START, end(10.2), STOP))
    assert finding.state == "broken"
    assert "before the client could say a word" in finding.evidence


def test_what_comes_out_of_a_handler_is_not_quiet() -> None:
    """An exception, though nobody logs it; a warning, though nothing is raised."""
    finding = quiet(told(CONNECT, START, FAULT, end(10.6, "ValueError: x"), STOP))
    assert finding.state == "broken"
    assert "an exception came out" in finding.evidence
    warning: Any = (10.55, "handler", "log", "watch out", {"levelno": 30})
    finding = quiet(told(CONNECT, START, FAULT, warning, end(10.6), STOP))
    assert finding.state == "broken"
    assert "the log has: watch out" in finding.evidence


def test_a_handler_that_left_before_the_fault_answers_nothing_after_it() -> None:
    """One that is still there may."""
    assert answers_after(told(CONNECT, START, end(10.4), STOP)).state == "broken"
    assert answers_after(told(CONNECT, START, STOP)).state == "unknown"


def test_the_time_that_was_waited_counts_from_the_fault() -> None:
    """From the start, where there was none."""
    assert Summary(told(CONNECT, START, FAULT, STOP)).waited == "2,500 ms"
    assert Summary(told(CONNECT, START, STOP)).waited == "2,900 ms"


@pytest.mark.parametrize(("kind", "word"), [("print", "printed"), ("note", "noted"), ("notice", "was told")])
def test_two_hundred_are_no_flood(kind: str, word: str) -> None:
    """One more is."""
    events: list[Any] = [(10.2 + number / 1000, "handler", kind, "x", {}) for number in range(201)]
    trial = Trial("reset", answered=False)
    assert find_bug(told(CONNECT, START, FAULT, *events[1:], end(10.6), STOP), trial) is None
    assert word in (find_bug(told(CONNECT, START, FAULT, *events, end(10.6), STOP), trial) or "")


def test_a_stray_exception_is_neither_a_loss_nor_the_labs_own() -> None:
    """Those are what the faults are about."""
    for exception, loss, induced, stray in (
        ("ValueError: x", False, False, True),
        ("ConnectionResetError", True, False, False),
        ("RuntimeError: x", False, True, False),
    ):
        run = told(CONNECT, START, FAULT, end(10.6, exception, loss=loss, induced=induced), STOP)
        assert (find_stray_exception(run) is not None) is stray


@pytest.mark.parametrize(("own", "asked", "stray"), [(True, False, True), (False, False, False), (True, True, False)])
def test_a_cancel_that_nobody_asked_is_a_stray_exception(*, own: bool, asked: bool, stray: bool) -> None:
    """Not one that may be a library's doing; nor where somebody has cancelled the handler."""
    data = {"ending": "cancelled", "exception": None, "close_code": None, "call": 1}
    data |= {"unasked": "though nobody cancelled it, in line 7", "own": own}
    ended: Any = (10.7, "handler", "end", "cancelled", data)
    cancelled: Any = (10.6, "handler", "cancelled", "cancelled", {"by": "connection_lost", "package": "aiohttp"})
    found = find_stray_exception(told(CONNECT, START, FAULT, *[cancelled][: int(asked)], ended, STOP))
    assert (found is not None and "nobody cancelled it, in line 7" in found) is stray


def test_a_reader_that_stalls_is_noticed_from_the_send_that_is_stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow machine takes its time to fill the buffers; of other faults the moment itself counts."""
    monkeypatch.delenv("LABKIT_TIME_SCALE", raising=False)
    sends: list[Any] = [(at, "handler", "send", "'hello'", {}) for at in (10.2, 10.6, 11.9)]
    stalls: Any = (10.5, "wire", "fault", "stalled-reader", {"fault": "stalled-reader", "family": "silence"})
    finding = within(2.0)(told(CONNECT, START, stalls, *sends, end(12.9), STOP))
    assert finding.state == "kept"
    assert "your last send() began at 1,900 ms" in finding.evidence
    assert finding.evidence.endswith("1,000 ms later")
    assert within(2.0)(told(CONNECT, START, FAULT, *sends, end(12.9), STOP)).state == "broken"
    assert within(0.5)(told(CONNECT, START, stalls, *sends, end(12.9), STOP)).state == "broken"
    assert within(2.0)(told(CONNECT, START, stalls, *sends[:1], end(12.9), STOP)).state == "broken"


@pytest.mark.parametrize(
    ("silences", "state"), [((0.14,), "unknown"), ((0.1, 0.14, 0.14), "kept"), ((0.08, 0.14, 0.14), "unknown")]
)
def test_a_loop_that_turns_seldom_does_not_tell_how_often_it_is_asked(
    silences: tuple[float, ...], state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first turn after 100 ms is the one in which the question comes; now and then, one shows the limit."""
    times = [10.1]  # when the handler starts
    for number in range(30):
        times.append(times[-1] + silences[number % len(silences)])
    said = [(at, "handler", "send", "'still there?'", {"type": "text"}) for at in times[1:]]
    monkeypatch.setattr(Turns, "of", lambda _: _Seldom(times))
    assert asks(told(CONNECT, START, *said, fault="none")).state == state


class _Seldom(Turns):
    def __init__(self, times: list[float]) -> None:
        super().__init__()
        self._times = times


def handler(at: float, kind: str, text: str) -> Any:
    return at, "handler", kind, text, {"type": "text"}


def client(at: float, kind: str, text: str) -> Any:
    return at, "client", kind, text, {"type": "text"}


@pytest.mark.parametrize(("asked_before", "state"), [(False, "kept"), (True, "broken")])
def test_a_question_may_come_just_after_a_message_that_came_too_late(*, asked_before: bool, state: str) -> None:
    """But not if the client has been asked when its time was up, and once more when it spoke."""
    first = [handler(10.2, "send", "'still there?'")] if asked_before else []
    late = [handler(10.25, "recv", "'late'"), handler(10.26, "send", "'still there?'")]
    assert asks_the_quiet_alone(told(CONNECT, START, *first, *late, fault="none")).state == state


def test_an_answer_belongs_to_its_message_however_late_it_is() -> None:
    """It is no quick answer to the next message, which has the same text."""
    sent = [client(10.2 + number / 10, "send", "'hello'") for number in range(8)]
    answered = [client(event[0] + 0.11, "recv", "'hello'") for event in sent]
    talks = (10.25, "wire", "fault", "talks-on", {"fault": "talks-on", "family": "exercise", "knobs": {}})
    finding = prompt(told(CONNECT, START, talks, *sent, *answered, fault="talks-on"))
    assert finding.state == "broken"
    assert "within 110 ms" in finding.evidence
