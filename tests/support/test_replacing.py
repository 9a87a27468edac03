"""A member of a class is replaced for as long as anybody needs it, and is then what it was."""

from __future__ import annotations

from collections.abc import Callable

from labkit.support.replacing import MISSING, replace


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
