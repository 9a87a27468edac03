"""A member of a class is replaced for as long as anybody needs it, and is then what it was."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import ModuleType

import pytest

from labkit.support.replacing import MISSING, InCommon, replace


class Bell:
    """Something of somebody else's."""

    def ring(self) -> str:
        """Make a sound."""
        return "ring"


def louder(ring: Callable[[Bell], str]) -> Callable[[Bell], str]:
    return lambda bell: ring(bell).upper()


def test_the_last_who_needs_it_puts_it_back() -> None:
    """Those in between share one stand-in; it is not made twice, nor put on top of itself."""
    before = vars(Bell)["ring"]
    first, second = replace(Bell, "ring", louder), replace(Bell, "ring", lambda _: None)
    assert Bell().ring() == "RING"
    first()
    assert Bell().ring() == "RING"
    second()
    assert vars(Bell)["ring"] is before
    again = replace(Bell, "ring", louder)
    assert Bell().ring() == "RING"
    again()
    assert vars(Bell)["ring"] is before


def test_what_other_code_has_put_there_meanwhile_stays() -> None:
    """It may call ours, which then does what the original does."""
    before = vars(Bell)["ring"]
    leave = replace(Bell, "ring", louder)
    theirs: Callable[[Bell], str] = lambda _: "theirs"  # noqa: E731
    Bell.ring = theirs  # type: ignore[method-assign, assignment]
    leave()
    assert Bell().ring() == "theirs"
    Bell.ring = before  # type: ignore[method-assign]


def test_what_only_the_objects_have_is_gone_from_the_class_again() -> None:
    """Their own attribute shows again."""
    given: list[object] = []

    def make(member: object) -> property:
        given.append(member)
        return property(lambda bell: vars(bell)["tone"].upper())

    bell = Bell()
    vars(bell)["tone"] = "low"
    leave = replace(Bell, "tone", make)
    assert (given, bell.tone) == ([MISSING], "LOW")  # type: ignore[attr-defined]
    leave()
    assert "tone" not in vars(Bell)
    assert bell.tone == "low"  # type: ignore[attr-defined]


def test_who_is_in_a_block_at_the_same_time_enters_it_once() -> None:
    """The first enters, and the last leaves, in whichever order they come and go."""
    done: list[str] = []

    @contextmanager
    def block() -> Iterator[None]:
        done.append("enter")
        yield
        done.append("leave")

    in_common, first, second = InCommon(block), ExitStack(), ExitStack()
    first.enter_context(in_common())
    second.enter_context(in_common())
    first.close()
    assert done == ["enter"]
    second.close()
    assert done == ["enter", "leave"]
    with in_common():
        assert done == ["enter", "leave", "enter"]


def test_who_comes_after_an_import_enters_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was imported may have something to replace; whoever entered before leaves what it had."""
    seen: list[bool] = []

    @contextmanager
    def block() -> Iterator[None]:
        seen.append("imported_late" in sys.modules)
        yield

    in_common = InCommon(block)
    with in_common():
        monkeypatch.setitem(sys.modules, "imported_late", ModuleType("imported_late"))
        with in_common(), in_common():
            assert seen == [False, True]


def test_a_block_that_fails_leaves_those_before_it() -> None:
    """Nobody is inside then, and who comes next enters them all."""
    done: list[str] = []

    @contextmanager
    def good() -> Iterator[None]:
        done.append("enter")
        try:
            yield
        finally:
            done.append("leave")

    @contextmanager
    def bad() -> Iterator[None]:
        raise OSError
        yield

    in_common = InCommon(good, bad)
    for _ in range(2):
        with pytest.raises(OSError), in_common():  # noqa: PT011 - it has no message
            pass
    assert done == ["enter", "leave"] * 2
