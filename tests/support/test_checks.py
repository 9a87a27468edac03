"""What users give is refused in one sentence, whatever its type."""

from __future__ import annotations

import sys

import pytest

from labkit.errors import BadValue, UnknownName
from labkit.support.checks import check_seconds, check_text, find, is_whole


@pytest.mark.parametrize(
    "value", [True, False, None, "1", [], -1, -0.1, float("nan"), float("inf"), float("-inf"), 10**400, 1j, object()]
)
@pytest.mark.parametrize("zero", [True, False])
def test_what_is_no_span_of_time(value: object, *, zero: bool) -> None:
    """A truth value is no number of seconds, and no wait is endless."""
    least = "of 0 or more" if zero else "above 0"
    with pytest.raises(BadValue, match=rf"^wait=.*; it takes a number of seconds {least}, such as 2\.0$"):
        check_seconds("wait", value, zero=zero)


@pytest.mark.parametrize("value", [1, 0.001, 10**9, sys.float_info.max])
def test_what_is_a_span_of_time(value: float) -> None:
    """Whole or not; zero only where it may be."""
    assert check_seconds("wait", value) == value
    assert check_seconds("wait", 0, zero=True) == 0
    with pytest.raises(BadValue, match=r"^wait=0; it takes a number of seconds above 0"):
        check_seconds("wait", 0)


def test_text_that_can_be_sent() -> None:
    """In UTF-8; a lone surrogate is no character, and is shown escaped."""
    assert check_text("the reason", "ä") == b"\xc3\xa4"
    with pytest.raises(BadValue, match=r"^the reason is 5; it takes text, such as 'bye'$"):
        check_text("the reason", 5)
    with pytest.raises(BadValue, match=r"^the reason holds '\\udc80', a lone surrogate, which UTF-8 cannot encode"):
        check_text("the reason", "x\udc80")


@pytest.mark.parametrize("name", ["three", ["one"], {}, None, 1])
def test_what_is_no_name(name: object) -> None:
    """Also what could not be a key of anything."""
    assert find("number", "one", {"one": 1}) == 1
    with pytest.raises(UnknownName, match=r"^there is no number .* The numbers are: one\.$"):
        find("number", name, {"one": 1})


def test_whole_numbers() -> None:
    """Python counts with True; the lab does not."""
    assert [is_whole(value) for value in (0, -3, True, 1.0, "1", None)] == [True, True, False, False, False, False]
