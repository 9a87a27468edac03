"""What runs in an experiment's place prints, logs and complains: events; and everybody else is left alone."""

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
from labkit.servers.capture import __name__ as where
from labkit.servers.capture import capture
from labkit.timeline import Place, Timeline, place
from tests import handlers


async def test_prints_become_events_line_by_line(capsys: pytest.CaptureFixture[str]) -> None:
    """On their lane, from threads too, and a last line without a newline is not lost; nothing is printed."""

    async def handler(websocket: Any) -> None:
        sys.stdout.write("first\nsec")
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
    assert capsys.readouterr().out == "beside\n"
    assert len(timeline) == 0


async def test_log_records_become_events_with_their_exception() -> None:
    """Level, logger, and what was raised; a wrong format string costs nobody the record."""
    timeline = Timeline()
    token = place.set(Place(timeline, "handler"))
    try:
        with capture(timeline):
            log = logging.getLogger("mine")
            try:
                raise ValueError("no")
            except ValueError:
                log.exception("it failed")
            # Past pytest's own handlers, which raise what a wrong format string raises.
            [handler] = [handler for handler in logging.getLogger().handlers if type(handler).__module__ == where]
            handler.handle(logging.LogRecord("mine", logging.WARNING, __file__, 1, "%d", ("no number",), None))
    finally:
        place.reset(token)
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
        token = place.set(Place(timeline, "handler"))
        loop.call_exception_handler({"message": "mine", "exception": ValueError("no")})
        place.reset(token)
        loop.call_exception_handler({"message": "nobody's"})
    assert [event.text for event in timeline.select("loop", "exception")] == ["mine: ValueError: no"]
    assert [context["message"] for context in before] == ["nobody's"]
    loop.set_exception_handler(None)


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
from labkit.servers.capture import capture
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
