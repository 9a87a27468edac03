"""The verdict is a pure function of the events: each finding is proved by them, or unknown."""

from __future__ import annotations

from typing import Any

import pytest

from labkit.events import Lane, make
from labkit.timeline import Timeline
from labkit.verdict import Verdict, judge

START = {"handler": "echo", "stack": "aiohttp", "library": "aiohttp 3.14", "given": "Request", "call": 1}


def end(ending: str = "returned", exception: str | None = None, close_code: int | None = 1000) -> dict[str, Any]:
    return {"ending": ending, "exception": exception, "close_code": close_code, "call": 1}


def story(*lines: tuple[Lane, str, dict[str, Any]] | tuple[Lane, str, dict[str, Any], str]) -> Timeline:
    """A timeline of (lane, kind, data) or (lane, kind, data, text), an event every 100 ms."""
    return Timeline.of(
        [
            make(lane, kind, text[0] if text else kind, data, at=index / 10)
            for index, (lane, kind, data, *text) in enumerate(lines)
        ]
    )


ACCOUNT = {"executable": [2, 3, 4, 7], "tool": "sys.monitoring", "why": None, "source": None, "first": 1}
NOTICE = {"how": "recv()", "exception": None, "code": 1006}
FOLLOWED = {"by": "somebody (app)", "package": "app", "followed": True}
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
    [("aiohttp", "yes"), ("asyncio", "no"), ("labkit", "no"), ("mine", "no"), (None, "unknown")],
)
def test_a_cancel_is_a_notice_if_the_library_did_it(package: str | None, noticed: str) -> None:
    """A timeout of the handler's own says nothing of the connection; one by nobody knows whom is unknown."""
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


def test_a_strangers_cancel_before_the_fault_is_not_of_it() -> None:
    """The handler lived through it: what the fault did is known."""
    verdict = judge(
        story(
            ("handler", "start", START),
            ("handler", "cancelled", {"by": None, "package": None}),
            ("wire", "fault", {"fault": "fin"}, "fin"),
            ("handler", "end", end(), "returned"),
        )
    )
    assert verdict.noticed == "no"


def test_what_is_told_after_the_end_is_told_to_nobody() -> None:
    """A task that the handler has left asks on; the handler itself has ended without a word from the library."""
    verdict = judge(
        story(
            ("handler", "start", START),
            ("wire", "fault", {"fault": "fin"}, "fin"),
            ("handler", "end", end(), "returned"),
            ("handler", "notice", NOTICE),
        )
    )
    assert (verdict.noticed, verdict.noticed_after) == ("no", None)


@pytest.mark.parametrize(
    ("ending", "doubt", "noticed"),
    [
        ("returned", "a ping of its own was not answered", "unknown"),
        ("returned", None, "no"),
        ("cancelled", None, "unknown"),
    ],
)
def test_a_doubt_leaves_it_unknown(ending: str, doubt: str | None, noticed: str) -> None:
    """It may have noticed in a way that the lab cannot see; or what it awaited was cancelled, by whom nobody saw."""
    verdict = judge(
        story(
            ("handler", "start", START),
            ("wire", "fault", {"fault": "blackhole"}, "blackhole"),
            ("handler", "end", {**end(ending), "doubt": doubt}, ending),
        )
    )
    assert verdict.noticed == noticed


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
    assert "did not notice and was still running 200 ms later; " in verdict.sentence
    assert "; left behind: task heartbeat." in verdict.sentence


def test_what_it_still_waits_in_is_told() -> None:
    """By the methods of the connection in which the handler was at the stop, where it was in any."""

    def told(inside: list[str]) -> str:
        stop = {"patience": 2.0, "inside": inside}
        return judge(story(("handler", "start", START), ("loop", "stop", stop))).sentence

    assert "was still running 100 ms later, in recv() and send();" in told(["recv()", "send()"])
    assert "was still running 100 ms later;" in told([])


@pytest.mark.parametrize(("code", "told"), [(1000, "close code 1000"), (0, "close code 0"), (None, "no close code")])
def test_the_close_code_that_the_handlers_connection_reports_is_told(code: int | None, told: str) -> None:
    """As it is: aiohttp reports 0 for a Close frame that has no code."""
    verdict = judge(story(("handler", "start", START), ("handler", "end", end(close_code=code), "returned")))
    assert verdict.close_code == code
    assert f" returned; {told}; " in verdict.sentence


def test_a_fault_may_find_no_connection_to_strike() -> None:
    """Then the sentence says why; a run without a fault, and one that ended before it was due, say nothing of it."""
    why = "the handler had called close(1000)"
    spared = ("wire", "spared", {"fault": "reset", "family": "transport", "why": why})
    ended = [("handler", "start", START), ("handler", "end", end(), "returned")]
    late, none = judge(story(*ended, spared)), judge(story(*ended))  # type: ignore[arg-type]
    assert (late.struck, none.struck) == (False, None)
    assert late.sentence.startswith(f"No fault struck, since {why}: echo on aiohttp returned; ")
    assert none.sentence.startswith("No fault struck: echo on aiohttp returned; ")
    assert judge(story(*ended, ("wire", "fault", {"fault": "fin"}))).struck is True  # type: ignore[arg-type]


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


def test_a_fault_before_the_handler_started() -> None:
    """What it would have noticed, and which of its lines would have run, is unknown."""
    fault = ("wire", "fault", {"fault": "handshake-cut"}, "handshake-cut")
    own = judge(story(("handler", "lines", ACCOUNT), ("client", "connect", {}), fault))
    assert (own.noticed, own.lines_never_ran) == ("unknown", None)
    assert own.sentence == "handshake-cut: the handler never started: nobody answered the client."
    refused = (
        "client",
        "refused",
        {"status": 503, "exception": "a.InvalidStatus: HTTP 503"},
        "a.InvalidStatus: HTTP 503",
    )
    library = judge(story(("client", "connect", {"client": "websockets"}), fault, refused))
    assert library.sentence == ("handshake-cut: the handler never started; the client saw InvalidStatus: HTTP 503.")


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


@pytest.mark.parametrize(
    ("kinds", "cleanup"),
    [
        (["open", "END"], "unknown"),
        (["open", "closing", "END"], "outlived"),
        (["open", "closing", "truncated", "END"], "truncated"),
        (["open", "closing", "closed", "END"], "complete"),
        (["open"], "unknown"),
    ],
)
def test_the_cleanup_so_far(kinds: list[str], cleanup: str) -> None:
    """As long as the experiment goes on, somebody may still close what is open."""
    lines: list[Any] = [("handler", "start", START)]
    lines += [("handler", "end", end()) if kind == "END" else ("cleanup", kind, CLEANUP) for kind in kinds]
    assert judge(story(*lines, ("loop", "so-far", {}))).cleanup == cleanup


def test_so_far_what_has_outlived_its_handler_comes_before_what_is_unknown() -> None:
    """The one is a fact already, the other is not."""
    lines: list[Any] = [("handler", "start", START)]
    for number, (name, kinds) in enumerate({"lock": ["open"], "file": ["open", "closing"]}.items()):
        lines += [("cleanup", kind, {"resource": name, "id": number}, name) for kind in kinds]
    verdict = judge(story(*lines, ("handler", "end", end()), ("loop", "so-far", {})))
    assert "; cleanup outlived (file in flight)" in verdict.sentence


def test_of_three_resources_the_worst_counts() -> None:
    """One truncated exit among complete ones is told, by its name."""
    lines: list[Any] = [("handler", "start", START)]
    for number, (name, last) in enumerate([("lock", "closed"), ("file", "truncated"), ("database", "closed")]):
        data = {"resource": name, "id": number}
        lines += [("cleanup", kind, data, name) for kind in ("open", "closing", last)]
    verdict = judge(story(*lines, ("handler", "end", end())))
    assert verdict.cleanup == "truncated"
    assert "cleanup truncated (file)" in verdict.sentence


@pytest.mark.parametrize(
    ("one", "other", "ended", "worst"),
    [
        (["closing", "truncated"], [], True, "truncated (one)"),
        (["closing"], [], True, "missing (other)"),
        (["closing"], ["closing", "closed"], True, "outlived (one in flight)"),
        (["closing"], [], False, "missing (other)"),
        (["closing"], ["closing", "closed"], False, "unknown (one)"),
    ],
)
def test_of_two_resources_the_one_that_fared_worse_is_told(
    one: list[str], other: list[str], ended: bool, worst: str
) -> None:
    """Cut short, never begun, not finished in time, not finished yet, closed: in this order."""
    lives = {"one": ["open", *one], "other": ["open", *other]}
    lines: list[Any] = [("handler", "start", START)]
    for number, (name, kinds) in enumerate(lives.items()):
        lines += [("cleanup", kind, {"resource": name, "id": number}, name) for kind in kinds]
    verdict = judge(story(*lines, *[("handler", "end", end())] * ended))
    assert verdict.cleanup == worst.partition(" ")[0]
    assert f"; cleanup {worst}" in verdict.sentence


def test_two_resources_may_have_one_name() -> None:
    """Two files: the second is closed, the first is cut short."""
    steps = [("open", 1), ("open", 2), ("closing", 1), ("truncated", 1), ("closing", 2), ("closed", 2)]
    lines: list[Any] = [("cleanup", kind, {"resource": "file", "id": number}, "file") for kind, number in steps]
    assert judge(story(("handler", "start", START), *lines, ("handler", "end", end()))).cleanup == "truncated"


def test_what_happens_at_the_instant_of_the_end_is_in_time() -> None:
    """A coarse clock gives one reading to several events: to the closing of a resource and to a cancel before the end,
    and to a fault before the end, which then did not come too late.
    """

    def told(*events: tuple[Lane, str, dict[str, Any], str], ending: dict[str, Any]) -> Verdict:
        start, last = make("handler", "start", "", START), make("handler", "end", "returned", ending, at=1.0)
        return judge(
            Timeline.of([start, *(make(lane, kind, text, data, at=1.0) for lane, kind, data, text in events), last])
        )

    assert told(*resources("open cache", "closing cache", "closed cache"), ending=end()).cleanup == "complete"
    assert "(cache in flight)" in told(*resources("open cache", "closing cache"), ending=end()).sentence
    by = ("handler", "cancelled", {"by": "somebody (mine)", "package": "mine"}, "")
    assert "was cancelled by somebody (mine)" in told(by, ending=end("cancelled")).sentence
    late = told(("wire", "fault", {"fault": "fin"}, "fin"), ending=end())
    assert (late.noticed, late.sentence.partition(";")[0]) == ("no", "fin: echo on aiohttp did not notice and returned")


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


def test_a_handler_for_another_library_is_named() -> None:
    """The end says which, and the sentence asks; without it nothing is said."""
    raised = end("raised", "AttributeError: 'Request' object has no attribute 'recv'")
    verdict = judge(story(("handler", "start", START), ("handler", "end", {**raised, "written_for": "websockets"})))
    assert verdict.sentence.endswith("aiohttp calls a handler with a Request; this one expects something else: "
                                     "is it written for websockets?")  # fmt: skip
    assert "written for" not in judge(story(("handler", "start", START), ("handler", "end", raised))).sentence


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


def test_a_cancel_of_another_call_did_not_end_it() -> None:
    """The handler's first call had ended when the second one was cancelled."""
    verdict = judge(
        story(
            ("handler", "start", START),
            ("handler", "cancelled", {"by": "first (mine)", "package": "mine"}),
            ("handler", "end", end("cancelled")),
            ("handler", "cancelled", {"by": "second (mine)", "package": "mine"}),
        )
    )
    assert "was cancelled by first (mine)" in verdict.sentence


@pytest.mark.parametrize(
    ("loss", "noticed", "told"),
    [(True, "unknown", "may or may not have noticed"), (False, "no", "did not notice")],
)
@pytest.mark.parametrize("family", ["transport", "server"])
def test_a_loss_that_came_out_of_the_handler_may_be_of_this_connection(
    loss: bool, noticed: str, told: str, family: str
) -> None:
    """Nobody saw on which connection it was raised. A fault of the server's own leaves nothing else to notice."""
    verdict = judge(
        story(
            ("handler", "start", START),
            ("wire", "fault", {"fault": "reset", "family": family}, "reset"),
            ("handler", "end", {**end("raised", "ConnectionResetError"), "loss": loss}, "raised ConnectionResetError"),
        )
    )
    assert verdict.noticed == noticed
    what = "" if family == "server" and not loss else f"{told} and "
    assert verdict.sentence.startswith(f"reset: echo on aiohttp {what}raised ConnectionResetError;")


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
                make("handler", "lines", "", {**ACCOUNT, "executable": [7]}, at=0.0),
                make("handler", "start", "", START, at=0.0),
                make("wire", "fault", "reset", {}, at=1.0),
                make("handler", "notice", "", NOTICE, at=1.0004),
                make("handler", "log", "WARNING mine: hm", {"levelno": 30}, at=3.0),
                make("handler", "end", "returned", end(close_code=None), at=3.0),
            ]
        )
    )
    assert verdict.sentence == (
        "reset: echo on aiohttp noticed after 0.4 ms and returned; no close code; line 7 never ran; 1 complaint."
    )


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0.0004, "0.4 ms"), (0.0996, "99.6 ms"), (0.1, "100 ms"), (0.9994, "999 ms"), (1.0, "1.0 s"), (2.34, "2.3 s")],
)
def test_a_time_is_told_in_the_unit_that_suits_it(seconds: float, told: str) -> None:
    """Two or three digits of it."""
    start, fault = make("handler", "start", "", START), make("wire", "fault", "reset")
    verdict = judge(Timeline.of([start, fault, make("handler", "notice", "", NOTICE, at=seconds)]))
    assert f"noticed after {told} and " in verdict.sentence


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
         "cleanup outlived (cache in flight, then queue, database)"),
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
        ("mine", [("refused", {"status": 503, "exception": None})], None, None, "no close code"),
        ("websockets", [("ended", {"how": "error", "code": 1006, "exception": "TimeoutError"})], "TimeoutError", 1006,
         "TimeoutError"),
        ("websockets", [("ended", {"how": "told", "code": 1001}), ("ended", {"how": "told", "code": 1000})], None, 1001,
         "close code 1001"),
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


def test_a_handler_that_outlasts_a_fault_of_the_servers_own_did_not_notice() -> None:
    """A shutdown is there to end it: one that still runs is told so."""
    fault = ("wire", "fault", {"fault": "shutdown", "family": "server"}, "shutdown")
    verdict = judge(story(("handler", "start", START), fault, ("loop", "stop", {})))
    assert verdict.sentence.startswith("shutdown: echo on aiohttp did not notice and was still running 100 ms later;")


FRAME = {"link": 0, "length": 2}
CLOSE_OF_SERVER = ("wire", "frame", {**FRAME, "source": "server", "opcode": "CLOSE", "code": 1002}, "Close 1002")
CLOSE_OF_CLIENT = ("wire", "frame", {**FRAME, "source": "client", "opcode": "CLOSE", "code": 1001}, "Close 1001")
FIN_OF_SERVER = ("wire", "fin", {"link": 0, "source": "server"}, "FIN from the server")
RST_BY_WIRE = ("wire", "reset", {"link": 0, "source": "wire", "to": "server"}, "RST to the server")
CLOSED = ("wire", "closed", {"link": 0}, "link closed")


@pytest.mark.parametrize(
    ("seen", "told"),
    [
        (
            [CLOSE_OF_SERVER, FIN_OF_SERVER, CLOSED],
            "; the server sent Close 1002 after 100 ms and ended TCP with a FIN after 200 ms",
        ),
        ([CLOSE_OF_CLIENT, CLOSE_OF_SERVER], "; the server sent Close 1002 after 200 ms"),
        ([CLOSE_OF_CLIENT], "; the server had not ended the connection 200 ms later"),
        ([RST_BY_WIRE, CLOSED], ""),
    ],
)
def test_of_a_server_that_is_not_ours_its_own_acts_alone_are_told(seen: list[Any], told: str) -> None:
    """What the client and the wire did is none of them; and after the wire's RST nothing can come of the server."""
    fault: Any = ("wire", "fault", {"fault": "reset", "link": 0}, "reset")
    verdict = judge(story(("wire", "link", {"link": 0}), fault, *seen, ("loop", "so-far", {})))
    assert verdict.sentence == f"reset: what the server's handler did is unknown{told}."
    assert (verdict.leaked, verdict.complaints) == (None, None)


def test_a_stranger_is_not_one_of_the_others() -> None:
    """A verdict is of the client's connection; of others, those that the lab has brought."""
    events = [
        make(lane, kind, "", data, at=at / 10, numbers={"connection": number})  # type: ignore[arg-type]
        for at, (lane, kind, data, number) in enumerate(
            [
                ("client", "connect", {}, 1),
                ("handler", "start", START, 1),
                ("client", "connect", {}, 2),
                ("handler", "start", {**START, "call": 2}, 2),
                ("client", "stranger", {"to_wire": True, "called": True}, 3),
                ("handler", "start", {**START, "call": 3}, 3),
            ]
        )
    ]
    verdict = judge(Timeline.of(events))
    assert len(verdict.others) == 1
    assert "A stranger connected too, and the handler was called for it." in verdict.sentence


#: A cancel ends at line 12.
KEPT = ("handler", "swallowed", {"line": 12, "by": "somebody (app)"})


@pytest.mark.parametrize(
    ("more", "then", "swallowed", "clause"),
    [
        ({}, [], (12,), "line 12 swallowed the cancel by somebody (app), and it went on"),
        ({"then": "returned"}, [("handler", "end", end())], (12,), "the cancel by somebody (app), and it returned"),
        ({"whose": "limit"}, [], (12,), "the cancel by somebody (app), so the limit of time had no effect"),
        ({"whose": "group"}, [], (12,), "the cancel by somebody (app), so the task group waits for it"),
        (
            {"where": "close (line 3 of pool.py)"},
            [],
            (12,),
            "the cancel by somebody (app), in close (line 3 of pool.py), and it went on",
        ),
        ({"line": None, "by": None}, [], None, "it swallowed the cancel, and it went on"),
        ({}, [("loop", "shutdown", {"done": False})], (12,), "so the shutdown waits for it"),
        ({}, [("loop", "shutdown", {"done": False}), ("loop", "shutdown", {"done": True})], (12,), "and it went on"),
        # A cancel that it has kept is passed on in the end; or another one has come, which ended it.
        ({}, [("handler", "end", end("cancelled"))], (), ""),
        ({}, [("handler", "cancelled", FOLLOWED), ("handler", "end", end("cancelled"))], (12,), "and it went on"),
        # It has held back two cancels at one place, and passes on the last; elsewhere, the first has ended for good.
        ({}, [("handler", "cancelled", FOLLOWED), KEPT, ("handler", "end", end("cancelled"))], (), ""),
        ({"line": 7}, [("handler", "cancelled", FOLLOWED), KEPT, ("handler", "end", end("cancelled"))], (7,), "line 7"),
        ({}, [("handler", "cancelled", {"by": None, "package": None})], None, "line 12 swallowed the cancel"),
    ],
)
def test_a_cancel_that_ended_in_the_handler(
    more: dict[str, Any], then: list[Any], swallowed: tuple[int, ...] | None, clause: str
) -> None:
    """Told with its line, who had cancelled, and what went wrong because of it; unknown where that is unknown."""
    told = {"line": 12, "by": "somebody (app)", **more}
    verdict = judge(
        story(
            ("handler", "start", START),
            ("wire", "fault", {"fault": "shutdown"}, "shutdown"),
            ("handler", "cancelled", FOLLOWED),
            ("handler", "swallowed", told),
            *then,
            ("loop", "stop", {}),
        )
    )
    assert verdict.swallowed == swallowed
    assert clause in verdict.sentence
    assert ("swallowed" in verdict.sentence) is bool(clause)


def test_a_cancel_that_an_older_recording_did_not_follow() -> None:
    """Whether it was passed on is unknown; without a cancel, none was swallowed."""
    cancelled = ("handler", "cancelled", {"by": "x", "package": "y"})
    assert judge(story(("handler", "start", START), cancelled)).swallowed is None  # type: ignore[arg-type]
    assert judge(story(("handler", "start", START))).swallowed == ()
