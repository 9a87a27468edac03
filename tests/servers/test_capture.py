"""What runs in an experiment's place prints, logs and complains: events; and everybody else is left alone."""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import Any

import pytest  # noqa: TC002 - pytest reads the annotations

import labkit
from labkit.servers.capture import __name__ as where
from labkit.servers.capture import capture
from labkit.timeline import Place, Timeline, place


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
