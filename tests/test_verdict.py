"""The verdict is a pure function of the events: each finding is proved by them, or unknown."""

from __future__ import annotations

from typing import Any

import pytest

from labkit.timeline import Event, Lane, Timeline
from labkit.verdict import judge

START = {"handler": "echo", "stack": "aiohttp", "library": "aiohttp 3.14", "given": "Request", "call": 1}


def end(ending: str = "returned", exception: str | None = None, close_code: int | None = 1000) -> dict[str, Any]:
    return {"ending": ending, "exception": exception, "close_code": close_code, "call": 1}


def story(*lines: tuple[Lane, str, dict[str, Any]] | tuple[Lane, str, dict[str, Any], str]) -> Timeline:
    """A timeline of (lane, kind, data) or (lane, kind, data, text), an event every 100 ms."""
    return Timeline.of(
        [
            Event(index / 10, lane, kind, text[0] if text else kind, data)
            for index, (lane, kind, data, *text) in enumerate(lines)
        ]
    )


ACCOUNT = {"executable": [2, 3, 4, 7], "tool": "sys.monitoring", "why": None, "source": None, "first": 1}
NOTICE = {"how": "recv()", "exception": None, "code": 1006}
CLEANUP = {"resource": "database", "id": 1}


def test_a_handler_that_is_told_and_returns() -> None:
    """The plain case, with the time from the fault to the notice."""
    verdict = judge(
        story(
            ("handler", "lines", ACCOUNT),
            ("handler", "start", START),
            ("handler", "line", {"line": 2}),
            ("wire", "fault", {"fault": "reset"}, "reset"),
            ("handler", "notice", NOTICE),
            ("handler", "line", {"line": 3}),
            ("handler", "end", end(), "returned"),
        )
    )
    assert (verdict.ending, verdict.close_code, verdict.noticed) == ("returned", 1000, "yes")
    assert verdict.noticed_after == pytest.approx(0.1)
    assert verdict.lines_never_ran == (4, 7)
    assert verdict.cleanup == "none"
    assert verdict.sentence == (
        "reset: echo on aiohttp noticed after 100 ms and returned; close code 1000; lines 4, 7 never ran."
    )


@pytest.mark.parametrize(
    ("package", "noticed"),
    [("aiohttp", "yes"), ("asyncio", "no"), ("labkit", "no"), (None, "unknown")],
)
def test_a_cancel_is_a_notice_if_the_library_did_it(package: str | None, noticed: str) -> None:
    """A timeout of the handler's own says nothing of the connection; a stranger's cancel leaves it unknown."""
    verdict = judge(
        story(
            ("handler", "start", START),
            ("wire", "fault", {"fault": "fin"}, "fin"),
            ("handler", "cancelled", {"by": package and f"somebody ({package})", "package": package}),
            ("handler", "end", end("cancelled", close_code=None)),
        )
    )
    assert verdict.noticed == noticed
    assert verdict.ending == "cancelled"
    assert ("whom is unknown" in verdict.sentence) is (package is None)


def test_a_handler_that_is_still_running() -> None:
    """What comes after the lab's stop is the lab's doing, and does not count."""
    verdict = judge(
        story(
            ("handler", "start", START),
            ("wire", "fault", {"fault": "fin"}, "fin"),
            ("cleanup", "open", CLEANUP, "database"),
            ("loop", "stop", {"patience": 2.0}),
            ("handler", "notice", NOTICE),
            ("cleanup", "closing", CLEANUP),
            ("cleanup", "closed", CLEANUP),
            ("handler", "log", {"levelno": 40}),
            ("handler", "end", end("cancelled")),
            ("loop", "leaked", {"what": "task"}, "task heartbeat"),
        )
    )
    assert (verdict.ending, verdict.noticed, verdict.close_code) == ("running", "no", None)
    assert verdict.cleanup == "missing"
    assert verdict.complaints == ()
    assert verdict.leaked == ("task heartbeat",)
    assert "was still running 200 ms later" in verdict.sentence


def test_without_a_fault_nothing_can_be_noticed() -> None:
    """No fault struck, or the handler had ended before it: unknown, and the sentence says why."""
    never = judge(story(("handler", "start", START), ("handler", "end", end(), "returned")))
    late = judge(
        story(
            ("handler", "start", START),
            ("handler", "end", end(), "returned"),
            ("wire", "fault", {"fault": "reset"}, "reset"),
        )
    )
    assert never.noticed == late.noticed == "unknown"
    assert never.sentence.startswith("No fault struck: ")
    assert "had ended before the fault" in late.sentence


def test_a_handler_that_never_started() -> None:
    """The client was refused: there is nothing to say of the handler but that."""
    verdict = judge(story(("client", "refused", {"status": 503}, "HTTP 503")))
    assert (verdict.ending, verdict.cleanup, verdict.lines_never_ran) == ("unknown", "unknown", None)
    assert verdict.sentence == "The handler never started: HTTP 503."


@pytest.mark.parametrize(
    ("kinds", "cleanup"),
    [
        (["open", "closing", "closed", "END"], "complete"),
        (["open", "closing", "truncated", "END"], "truncated"),
        (["open", "END"], "missing"),
        (["open", "closing", "END", "closed"], "outlived"),
        (["open", "closing", "END"], "outlived"),
        (["open", "closing"], "unknown"),
        (["open", "closing", "closed"], "complete"),
        (["END"], "none"),
    ],
)
def test_the_cleanup(kinds: list[str], cleanup: str) -> None:
    """What became of a resource, from the order of its events and of the handler's end."""
    lines: list[Any] = [("handler", "start", START)]
    lines += [("handler", "end", end()) if kind == "END" else ("cleanup", kind, CLEANUP) for kind in kinds]
    assert judge(story(*lines)).cleanup == cleanup


def test_of_three_resources_the_worst_counts() -> None:
    """One truncated exit among complete ones is told, by its name."""
    lines: list[Any] = [("handler", "start", START)]
    for number, (name, last) in enumerate([("lock", "closed"), ("file", "truncated"), ("database", "closed")]):
        data = {"resource": name, "id": number}
        lines += [("cleanup", kind, data, name) for kind in ("open", "closing", last)]
    verdict = judge(story(*lines, ("handler", "end", end())))
    assert verdict.cleanup == "truncated"
    assert "cleanup truncated (file)" in verdict.sentence


def test_where_no_tool_tells_the_lines_are_unknown() -> None:
    """Also if that turns out only at the end, after the lab's stop."""
    missing = {**ACCOUNT, "tool": None, "why": "a debugger took over"}
    verdict = judge(
        story(
            ("handler", "lines", ACCOUNT),
            ("handler", "start", START),
            ("handler", "end", end()),
            ("loop", "stop", {}),
            ("handler", "lines", missing),
        )
    )
    assert verdict.lines_never_ran is None
    assert "which lines ran is unknown" in verdict.sentence


def test_complaints_are_warnings_and_worse_and_what_the_loop_was_given() -> None:
    """INFO is none."""
    verdict = judge(
        story(
            ("handler", "start", START),
            ("handler", "log", {"levelno": 20}, "INFO mine: fine"),
            ("handler", "log", {"levelno": 30}, "WARNING mine: hm"),
            ("loop", "exception", {"message": "never retrieved"}, "Task exception was never retrieved"),
        )
    )
    assert verdict.complaints == ("WARNING mine: hm", "Task exception was never retrieved")
    assert "2 complaints" in verdict.sentence


@pytest.mark.parametrize(
    ("library", "given", "exception", "other"),
    [
        ("aiohttp 3.14", "Request", "AttributeError: 'Request' object has no attribute 'recv'", "websockets"),
        ("websockets 17", "ServerConnection", "AttributeError: 'ServerConnection' object has no …", "aiohttp"),
        ("aiohttp 3.14", "Request", "AttributeError: 'Database' object has no attribute 'x'", None),
        ("aiohttp 3.14", "Request", "ValueError: Request", None),
    ],
)
def test_a_handler_for_the_other_library_is_recognised(
    library: str, given: str, exception: str, other: str | None
) -> None:
    """Only where the exception names what the library gave; any other bug is the handler's own."""
    start = {**START, "library": library, "given": given}
    verdict = judge(story(("handler", "start", start), ("handler", "end", end("raised", exception), "raised")))
    assert (f"is it written for {other}?" in verdict.sentence) if other else ("written for" not in verdict.sentence)


def test_lines_are_told_in_ranges() -> None:
    """Seven numbers in a row read as two."""
    account = {**ACCOUNT, "executable": [3, 4, 5, 9, 11, 12]}
    verdict = judge(story(("handler", "lines", account), ("handler", "start", START)))
    assert "lines 3-5, 9, 11-12 never ran" in verdict.sentence


def test_what_the_handler_was_told_before_the_fault_is_no_notice_of_it() -> None:
    """A notice counts from the fault on; one of the library's earlier cancels does neither."""
    verdict = judge(
        story(
            ("handler", "start", START),
            ("handler", "notice", NOTICE),
            ("handler", "cancelled", {"by": "connection_lost (aiohttp)", "package": "aiohttp"}),
            ("wire", "fault", {"fault": "reset"}, "reset"),
        )
    )
    assert (verdict.noticed, verdict.noticed_after) == ("no", None)


def test_the_first_notice_is_measured() -> None:
    """The handler may be told more than once, and by a cancel as well as by a call."""
    verdict = judge(
        story(
            ("handler", "start", START),
            ("wire", "fault", {"fault": "reset"}, "reset"),
            ("handler", "cancelled", {"by": "Timeout._on_timeout (asyncio)", "package": "asyncio"}),
            ("handler", "cancelled", {"by": "connection_lost (aiohttp)", "package": "aiohttp"}),
            ("handler", "notice", NOTICE),
            ("handler", "end", end("raised", "ValueError: no", 1006), "raised ValueError: no"),
        )
    )
    assert verdict.noticed_after == pytest.approx(0.2)
    assert (verdict.ending, verdict.exception, verdict.close_code) == ("raised", "ValueError: no", 1006)
    assert verdict.sentence.startswith("reset: echo on aiohttp noticed after 200 ms and raised ValueError: no; ")


def test_the_last_cancel_is_the_one_that_ended_it() -> None:
    """A cancel that was swallowed is history; the sentence names who ended the handler."""
    verdict = judge(
        story(
            ("handler", "start", START),
            ("wire", "fault", {"fault": "fin"}, "fin"),
            ("handler", "cancelled", {"by": "first (mine)", "package": "mine"}),
            ("handler", "cancelled", {"by": "second (mine)", "package": "mine"}),
            ("handler", "end", end("cancelled", close_code=None)),
        )
    )
    assert "was cancelled by second (mine)" in verdict.sentence


def test_a_line_that_ran_after_the_stop_has_not_run() -> None:
    """What a handler does while the lab ends it proves nothing of the fault."""
    verdict = judge(
        story(
            ("handler", "lines", ACCOUNT),
            ("handler", "start", START),
            ("handler", "line", {"line": 2}),
            ("loop", "stop", {}),
            ("handler", "line", {"line": 7}),
        )
    )
    assert verdict.lines_never_ran == (3, 4, 7)


def test_one_is_told_as_one() -> None:
    """One line, one complaint; and times in the unit that suits them."""
    verdict = judge(
        Timeline.of(
            [
                Event(0.0, "handler", "lines", "", {**ACCOUNT, "executable": [7]}),
                Event(0.0, "handler", "start", "", START),
                Event(1.0, "wire", "fault", "reset", {}),
                Event(1.0004, "handler", "notice", "", NOTICE),
                Event(3.0, "handler", "log", "WARNING mine: hm", {"levelno": 30}),
                Event(3.0, "handler", "end", "returned", end(close_code=None)),
            ]
        )
    )
    assert verdict.sentence == (
        "reset: echo on aiohttp noticed after 0.4 ms and returned; no close code; line 7 never ran; 1 complaint."
    )


def test_judging_changes_nothing() -> None:
    """The same events give the same verdict, however often one asks; an empty timeline has one too."""
    timeline = story(("handler", "start", START), ("handler", "end", end(), "returned"))
    before = list(timeline)
    assert judge(timeline) == judge(timeline)
    assert list(timeline) == before
    nothing = judge(Timeline())
    assert nothing.sentence == "The handler never started."
    assert (nothing.noticed, nothing.noticed_after, nothing.leaked, nothing.complaints) == ("unknown", None, (), ())


def resources(*kinds: str) -> list[tuple[Lane, str, dict[str, Any], str]]:
    """Events of the cleanup lane, from words such as ``"closing cache"``."""
    names = ["database", "queue", "cache"]
    words = [word.split() for word in kinds]
    return [("cleanup", kind, {"resource": name, "id": names.index(name)}, name) for kind, name in words]


OPEN = ("open database", "open queue", "open cache")


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        (["closing cache", "closed cache", "closing queue", "closed queue", "closing database", "closed database"], [],
         "cleanup complete"),
        (["closing cache", "truncated cache", "closing queue", "closed queue", "closing database", "closed database"],
         [], "cleanup truncated (cache)"),
        (["closing cache", "truncated cache", "closing queue", "truncated queue", "closing database",
          "truncated database"], [], "cleanup truncated (database, queue, cache)"),
        ([], [], "cleanup missing (database, queue, cache)"),
        (["closing cache"],
         ["closed cache", "closing queue", "closed queue", "closing database", "closed database"],
         "cleanup outlived (cache in flight, then database, queue)"),
        (["closing cache", "closed cache", "closing queue"], ["closed queue", "closing database", "closed database"],
         "cleanup outlived (queue in flight, then database)"),
    ],
)  # fmt: skip
def test_of_three_exits_it_is_told_which_was_in_flight(before: list[str], after: list[str], told: str) -> None:
    """An AsyncExitStack closes them one after the other; the handler's end may come in between."""
    verdict = judge(
        story(
            ("handler", "start", START),
            ("wire", "fault", {"fault": "close"}, "close"),
            *resources(*OPEN, *before),
            ("handler", "end", end(), "returned"),
            *resources(*after),
        )
    )
    assert told in verdict.sentence


@pytest.mark.parametrize(
    ("client", "events", "exception", "code", "told"),
    [
        ("labkit", [("ended", {"how": "reset", "code": 1006, "exception": "ConnectionResetError"})],
         "ConnectionResetError", 1006, None),
        ("aiohttp", [("ended", {"how": "told", "code": 1001, "exception": None})], None, 1001, "close code 1001"),
        ("aiohttp", [("ended", {"how": "told", "code": None, "exception": None})], None, None, "no close code"),
        ("websockets", [("ended", {"how": "error", "code": 1006, "exception": "a.b.Closed: no close frame"})],
         "a.b.Closed: no close frame", 1006, "Closed: no close frame"),
        ("websockets", [("refused", {"status": 503, "exception": "a.InvalidStatus: HTTP 503"})],
         "a.InvalidStatus: HTTP 503", None, "InvalidStatus: HTTP 503"),
        ("websockets", [], None, None, "nothing"),
    ],
)  # fmt: skip
def test_what_the_client_saw(
    client: str, events: list[tuple[str, dict[str, Any]]], exception: str | None, code: int | None, told: str | None
) -> None:
    """Its exception and its close code; the sentence tells of a library's client, the lab's own has no opinion."""
    verdict = judge(
        story(
            ("client", "connect", {"client": client}),
            ("handler", "start", START),
            ("wire", "fault", {"fault": "reset"}, "reset"),
            *[("client", kind, data) for kind, data in events],  # type: ignore[list-item]
        )
    )
    assert (verdict.client_exception, verdict.client_close_code) == (exception, code)
    assert ("the client saw" in verdict.sentence) is (told is not None)
    assert told is None or f"the client saw {told}." in verdict.sentence


def test_what_the_clients_process_came_to() -> None:
    """A program that was killed tells nothing any more; its end does."""
    verdict = judge(
        story(
            ("client", "connect", {"client": "websockets"}),
            ("handler", "start", START),
            ("client", "exit", {"how": "SIGKILL", "status": -9}, "process ended: SIGKILL"),
        )
    )
    assert "the client's process ended: SIGKILL." in verdict.sentence


def test_a_fault_of_the_servers_own_is_nothing_to_notice() -> None:
    """The connection is in order, so the sentence does not blame the handler for not noticing."""
    verdict = judge(
        story(
            ("handler", "start", START),
            ("wire", "fault", {"fault": "handler-error", "family": "server"}, "handler-error"),
            ("handler", "end", end("raised", "ValueError: no"), "raised ValueError: no"),
        )
    )
    assert verdict.noticed == "no"
    assert verdict.sentence.startswith("handler-error: echo on aiohttp raised ValueError: no;")
