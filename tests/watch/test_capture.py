"""What runs in an experiment's scope prints, logs and complains: events; and everybody else is left alone."""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
import subprocess
import sys
from typing import Any

import pytest

import labkit
from labkit.timeline import Scope, Timeline, scope
from labkit.watch.capture import capture
from tests import handlers


async def test_prints_become_events_line_by_line(capsys: pytest.CaptureFixture[str]) -> None:
    """On their lane, from threads too, and a last line without a newline is not lost; nothing is printed."""

    async def handler(websocket: Any) -> None:
        assert sys.stdout.write("first\nsec") == len("first\nsec")
        sys.stdout.write("ond\n")
        sys.stderr.writelines(["to stderr\n"])
        await asyncio.to_thread(sys.stdout.write, "from a thread\n")
        sys.stdout.write("no newline")

    run = await labkit.play(handler, on="websockets")
    printed = [(event.text, event.data["stream"]) for event in run.timeline.select("handler", "print")]
    assert printed == [
        ("first", "stdout"),
        ("second", "stdout"),
        ("to stderr", "stderr"),
        ("from a thread", "stdout"),
        ("no newline", "stdout"),
    ]
    assert run.timeline.select("handler", "end")[0].at >= run.timeline.select("handler", "print")[-1].at
    assert capsys.readouterr() == ("", "")


async def test_outside_the_experiment_prints_and_logs_go_where_they_went(capsys: pytest.CaptureFixture[str]) -> None:
    """While an experiment is under way, the code beside it is not disturbed."""
    timeline = Timeline()
    with capture(timeline):
        sys.stdout.write("beside\n")
        assert sys.stdout.encoding  # in all else it is the stream that it stands for
        logging.getLogger("beside").warning("careful")
    assert capsys.readouterr() == ("beside\n", "")  # the warning went to the log's own handler, which pytest has
    assert len(timeline) == 0


async def test_client_and_handler_each_print_and_log_on_their_own_lane() -> None:
    """Half lines are not joined, and are told at the end at the latest."""
    timeline = Timeline()
    with capture(timeline):
        with timeline.scope("client"):
            sys.stdout.write("the client's ")
            logging.getLogger("mine").warning("of the client")
        with timeline.scope("handler"):
            sys.stdout.write("the handler's ")
            logging.getLogger("mine").warning("of the handler")
        with timeline.scope("client"):
            sys.stdout.write("half line")
        assert not timeline.select(None, "print")
    assert [(event.lane, event.kind, event.text) for event in timeline] == [
        ("client", "log", "WARNING mine: of the client"),
        ("handler", "log", "WARNING mine: of the handler"),
        ("handler", "print", "the handler's "),
        ("client", "print", "the client's half line"),
    ]


async def test_a_long_line_is_cut() -> None:
    """A timeline is to be read."""
    timeline = Timeline()
    with capture(timeline), timeline.scope():
        sys.stdout.write("x" * 5000 + "\n")
        logging.getLogger("mine").warning("y" * 5000)
    assert [len(event.text) for event in timeline] == [2000, 2000]


async def test_log_records_become_events_with_their_exception() -> None:
    """Level, logger, and what was raised; a wrong format string costs nobody the record."""
    timeline = Timeline()
    token, log = scope.set(Scope(timeline, "handler")), logging.getLogger("mine")
    try:
        with capture(timeline):
            try:
                raise ValueError("no")
            except ValueError:
                log.exception("it failed")
            log.propagate = False  # past pytest's own handlers, which raise what a wrong format string raises
            log.warning("%d", "no number")
    finally:
        log.propagate = True
        scope.reset(token)
    first, second = timeline.select("handler", "log")
    assert first.text == "ERROR mine: it failed"
    assert first.data == {"level": "ERROR", "levelno": 40, "logger": "mine", "exception": "ValueError: no"}
    assert second.text.startswith("WARNING mine: %d [TypeError")


async def test_the_loops_complaints_go_to_the_experiment_whose_task_it_was() -> None:
    """And to the handler that was there before, if it was nobody's."""
    loop = asyncio.get_running_loop()
    before: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: before.append(context))
    timeline = Timeline()
    with capture(timeline):
        token = scope.set(Scope(timeline, "handler"))
        loop.call_exception_handler({"message": "mine", "exception": ValueError("no")})
        scope.reset(token)
        loop.call_exception_handler({"message": "nobody's"})
    assert [event.text for event in timeline.select("loop", "exception")] == ["mine: ValueError: no"]
    assert [context["message"] for context in before] == ["nobody's"]
    loop.set_exception_handler(None)


@pytest.mark.parametrize("word", ["task", "future"])
async def test_a_complaint_of_a_task_is_its_experiments(word: str) -> None:
    """The loop complains of a task that nobody waits for when it is collected: in any scope."""
    loop, timeline = asyncio.get_running_loop(), Timeline()
    with capture(timeline):
        with timeline.scope():
            task = asyncio.create_task(asyncio.sleep(0))
        await task
        loop.call_exception_handler({"message": "nobody waited", word: task})
    assert [event.text for event in timeline] == ["nobody waited"]


async def test_a_complaint_of_nobodys_is_logged_as_ever(caplog: pytest.LogCaptureFixture) -> None:
    """Where no other handler was there before."""
    with capture(Timeline()):
        asyncio.get_running_loop().call_exception_handler({"message": "nobody's"})
    assert [record.getMessage() for record in caplog.records] == ["nobody's"]


async def test_experiments_that_overlap_share_the_stand_ins() -> None:
    """Each record and each complaint is told once, and the last experiment still has them when another has ended."""
    timelines = Timeline(), Timeline()
    loop = asyncio.get_running_loop()
    first, last = (capture(timeline) for timeline in timelines)
    first.__enter__()
    last.__enter__()
    for timeline in timelines:
        with timeline.scope():
            logging.getLogger("mine").warning("of each")
    first.__exit__(None, None, None)
    with timelines[1].scope():
        loop.call_exception_handler({"message": "of the last"})
    last.__exit__(None, None, None)
    assert [[event.text for event in timeline] for timeline in timelines] == [
        ["WARNING mine: of each"],
        ["WARNING mine: of each", "of the last"],
    ]
    assert loop.get_exception_handler() is None


async def test_all_is_put_back_when_the_last_experiment_ends() -> None:
    """Two that overlap share the stand-ins; a stream that somebody redirected meanwhile stays theirs."""
    before = sys.stdout, sys.stderr, list(logging.getLogger().handlers)
    first, second = capture(Timeline()), capture(Timeline())
    first.__enter__()
    second.__enter__()
    assert sys.stdout is not before[0]
    first.__exit__(None, None, None)
    assert sys.stdout is not before[0]
    second.__exit__(None, None, None)
    assert (sys.stdout, sys.stderr, list(logging.getLogger().handlers)) == before


async def test_what_somebody_put_in_their_place_meanwhile_stays() -> None:
    """A stream, a loop's exception handler: the lab takes off what is its own, and no more."""
    loop = asyncio.get_running_loop()
    before = sys.stdout
    theirs, complain = io.StringIO(), lambda _loop, _context: None
    with capture(Timeline()):
        sys.stdout = theirs
        loop.set_exception_handler(complain)
    try:
        assert sys.stdout is theirs
        assert loop.get_exception_handler() is complain
    finally:
        sys.stdout = before
        loop.set_exception_handler(None)


@pytest.mark.parametrize("error", [ValueError, asyncio.CancelledError, KeyboardInterrupt])
async def test_all_is_put_back_after_an_error_too(error: type[BaseException]) -> None:
    """Whatever ends the experiment."""
    loop = asyncio.get_running_loop()
    before = sys.stdout, sys.stderr, list(logging.getLogger().handlers), loop.get_exception_handler()

    def fails() -> None:
        with capture(Timeline()):
            assert sys.stderr is not before[1]
            raise error

    with pytest.raises(error):
        fails()
    assert (sys.stdout, sys.stderr, list(logging.getLogger().handlers), loop.get_exception_handler()) == before


async def test_a_handler_that_redirects_its_output_gets_it() -> None:
    """`redirect_stdout` works inside a handler; only what it does not catch becomes events."""
    caught = io.StringIO()

    async def handler(websocket: Any) -> None:
        with contextlib.redirect_stdout(caught):
            print("mine")  # noqa: T201 - what is tested
        print("the lab's")  # noqa: T201 - what is tested

    run = await labkit.play(handler, on="websockets")
    assert caught.getvalue() == "mine\n"
    assert [event.text for event in run.timeline.select("handler", "print")] == ["the lab's"]


async def test_half_lines_of_runs_that_take_turns_are_not_joined() -> None:
    """Ten handlers write their lines piece by piece, each between the others' pieces."""

    def make(number: int) -> Any:
        async def handler(websocket: Any) -> None:
            for piece in ("I am", f" number {number}", ", ", "still ", f"{number}\n"):
                sys.stdout.write(piece)
                await asyncio.sleep(0)
            inner = asyncio.create_task(asyncio.to_thread(print, f"thread of {number}"))
            await asyncio.gather(inner, handlers.websockets_echo(websocket))

        return handler

    runs = await asyncio.gather(*(labkit.play(make(number), on="websockets", fault="close") for number in range(10)))
    for number, run in enumerate(runs):
        printed = [event.text for event in run.timeline.select("handler", "print")]
        assert printed == [f"I am number {number}, still {number}", f"thread of {number}"]


def test_a_program_without_logging_set_up_still_sees_its_warnings() -> None:
    """Beside an experiment, a warning goes to stderr as it does without one: logging's last resort."""
    program = """
import asyncio, logging
from labkit.watch.capture import capture
from labkit.timeline import Timeline

async def main():
    logging.getLogger("beside").setLevel(logging.INFO)
    with capture(Timeline()):
        logging.getLogger("beside").warning("careful")
        logging.getLogger("beside").info("nobody asks")

asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "careful\n")


async def test_a_logger_that_does_not_propagate_is_heard_too() -> None:
    """As those of a web framework's configuration; its own handlers have the record as well, and once each."""
    own, seen = logging.getLogger("app.quiet"), []
    own.propagate = False
    handler = logging.Handler()
    handler.emit = seen.append  # type: ignore[method-assign]
    own.addHandler(handler)

    async def logs(websocket: Any) -> None:
        try:
            await handlers.websockets_echo(websocket)
        finally:
            own.error("lost a client")
            logging.getLogger("app.loud").warning("this too")

    before = logging.Logger.callHandlers
    run = await labkit.play(logs, on="websockets", fault="close")
    assert run.verdict.complaints == ("ERROR app.quiet: lost a client", "WARNING app.loud: this too"), run
    assert [record.getMessage() for record in seen] == ["lost a client"]
    assert logging.Logger.callHandlers is before
    own.removeHandler(handler)


async def test_a_logger_beneath_one_that_does_not_propagate_is_heard_too() -> None:
    """Its records end there too, on their way to the root."""
    parent = logging.getLogger("app.parent")
    parent.propagate = False
    parent.addHandler(logging.NullHandler())
    timeline = Timeline()
    with capture(timeline), timeline.scope():
        logging.getLogger("app.parent.child.grandchild").warning("careful")
    assert [event.text for event in timeline] == ["WARNING app.parent.child.grandchild: careful"]


async def test_who_replaced_how_loggers_call_their_handlers_meanwhile_keeps_it() -> None:
    """As tools that trace a program do; a record that nobody else would tell is told as long as one runs."""
    before, timeline = logging.Logger.callHandlers, Timeline()
    seen: list[str] = []
    with capture(timeline):
        ours = logging.Logger.callHandlers

        def theirs(logger: logging.Logger, record: logging.LogRecord) -> None:
            seen.append(record.getMessage())
            ours(logger, record)

        logging.Logger.callHandlers = theirs  # type: ignore[method-assign]
    try:
        assert logging.Logger.callHandlers is theirs
        logging.getLogger("mine").warning("afterwards")
        assert (seen, len(timeline)) == (["afterwards"], 0)
    finally:
        logging.Logger.callHandlers = before  # type: ignore[method-assign]


async def test_a_half_line_is_told_when_its_own_experiment_ends() -> None:
    """And not when another one does, whose timeline has ended by then."""
    mine, other = Timeline(), Timeline()
    first, second = capture(mine), capture(other)
    first.__enter__()
    second.__enter__()
    with mine.scope():
        sys.stdout.write("one ")
    second.__exit__(None, None, None)
    with mine.scope():
        sys.stdout.write("line")
    first.__exit__(None, None, None)
    assert ([event.text for event in mine], len(other)) == (["one line"], 0)


@pytest.mark.parametrize("schedule", ["call_soon", "call_later", "done callback"])
async def test_an_error_in_a_callback_is_a_complaint(schedule: str) -> None:
    """On every Python: the loop tells which callback failed, and that knows whose it is."""

    def fails(*_: object) -> None:
        raise ValueError("a callback of mine")

    async def calls_back(websocket: Any) -> None:
        loop = asyncio.get_running_loop()
        if schedule == "call_soon":
            loop.call_soon(fails)
        elif schedule == "call_later":
            loop.call_later(0, fails)
        else:
            asyncio.ensure_future(asyncio.sleep(0)).add_done_callback(fails)
        await handlers.websockets_echo(websocket)

    run = await labkit.play(calls_back, on="websockets", fault="close")
    [complaint] = run.verdict.complaints
    assert complaint.endswith(": ValueError: a callback of mine")
