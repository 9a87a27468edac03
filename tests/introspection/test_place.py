"""Whose code stands on the stack."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from operator import attrgetter
from pathlib import Path
from types import FunctionType

import pytest

from labkit.introspection import place as place_module
from labkit.introspection.place import Called, find_place, local_of, stack_from, stack_of

ROOT = Path(__file__).parents[2]


def looks() -> object:
    return find_place(stack_from(sys._getframe()), __file__)


def test_the_place_is_the_innermost_in_the_handlers_file() -> None:
    """With its line."""
    place = find_place(stack_from(sys._getframe()), __file__)
    assert place is not None
    assert (place.line, place.function, place.own) == (
        test_the_place_is_the_innermost_in_the_handlers_file.__code__.co_firstlineno + 2,
        "test_the_place_is_the_innermost_in_the_handlers_file",
        True,
    )


def test_an_instruction_without_a_line_is_no_place() -> None:
    """The compiler makes some, and another thread may look while one of them runs; then its caller is told."""
    without = FunctionType(looks.__code__.replace(co_linetable=b""), globals())
    place = without()
    assert getattr(place, "function", None) == "test_an_instruction_without_a_line_is_no_place"


def count_cut_off(audited: bool) -> tuple[int, int]:
    """Look at a thread that goes on; tell how many looks do not reach its beginning, the lab's and a plain walk's."""
    if audited:
        sys.addaudithook(lambda *_: None)
    ended = threading.Event()

    def deep(calls: int) -> Iterator[None]:  # a generator that has yielded, like a coroutine, has nothing outside it
        if calls:
            yield from deep(calls - 1)
        time.sleep(0)  # the one who looks may go on
        yield

    def run() -> None:
        while not ended.is_set():
            for _ in deep(30):
                time.sleep(0)

    thread = threading.Thread(target=run)
    thread.start()

    def step_by_step(ident: int) -> list[Called]:
        frame, read = sys._current_frames().get(ident), []
        while frame is not None:
            read.append((frame.f_code, frame.f_lineno, frame.f_globals))
            frame = frame.f_back
        return read

    def count(look: Callable[[int], list[Called]]) -> int:
        assert thread.ident is not None
        names = [[code.co_name for code, _, _ in look(thread.ident)] for _ in range(10_000)]
        assert any("deep" in each for each in names)
        return sum("deep" in each and "_bootstrap" not in each for each in names)

    sys.setswitchinterval(1e-6)
    try:
        return count(stack_of), count(step_by_step)
    finally:
        ended.set()
        thread.join()


@pytest.mark.parametrize("audited", [False, True], ids=["", "audited"])
def test_the_stack_of_another_thread_is_read_at_one_moment(audited: bool) -> None:
    """Though it goes on, and its calls end: a look sees it whole; where an audit hook in Python listens, too."""
    code = f"from tests.introspection.test_place import count_cut_off; print(*count_cut_off({audited}))"
    told = subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True)  # an audit hook stays for ever
    one_moment, step_by_step = map(int, told.split())
    # On Python 3.13 one is cut off now and then.
    assert 4 * one_moment <= step_by_step


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="since Python 3.12 no collection comes within a call of C")
@pytest.mark.parametrize("collects", [True, False])
def test_no_collection_comes_in_the_middle_of_a_look(monkeypatch: pytest.MonkeyPatch, collects: bool) -> None:
    """It may let the other thread go on, and Python crashes; afterwards the collector is as it was."""
    seen: list[bool] = []

    def attributes(*names: str) -> Callable[[object], object]:
        read = attrgetter(*names)
        return lambda frame: (seen.append(gc.isenabled()), read(frame))[1]

    monkeypatch.setattr(place_module, "attrgetter", attributes)
    (gc.enable if collects else gc.disable)()
    try:
        assert stack_of(threading.get_ident())
        assert gc.isenabled() is collects
    finally:
        gc.enable()
    assert seen
    assert not any(seen)


def test_the_stack_of_no_thread_is_empty() -> None:
    """It may have ended before somebody looks."""
    assert stack_of(0) == []
    assert stack_from(None) == []


def test_other_threads_are_read_in_one_place() -> None:
    """Where the collector is kept away: whoever reads their frames elsewhere may crash Python 3.11."""
    rooms = ROOT / "labkit"
    readers = [file.name for file in rooms.rglob("*.py") if "_current_frames" in file.read_text(encoding="utf-8")]
    assert readers == ["place.py"]


def test_a_variable_of_another_threads_innermost_call() -> None:
    """Read while the thread waits in that very function; of another function nothing is read."""
    begun, goes_on = threading.Event(), threading.Event()
    thread = threading.Thread(target=lambda: (begun.set(), goes_on.wait()))
    thread.start()
    try:
        begun.wait()
        while (waiter := local_of(thread.ident or 0, threading.Condition.wait.__code__, "waiter")) is None:
            time.sleep(0)  # from one call to the next
        assert waiter.locked()
        assert local_of(thread.ident or 0, threading.Condition.wait.__code__, "no such name") is None
        assert local_of(thread.ident or 0, threading.Event.wait.__code__, "self") is None
    finally:
        goes_on.set()
        thread.join()
