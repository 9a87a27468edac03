"""The scale on which the lab waits."""

from __future__ import annotations

import pytest

from labkit.clock import scaled
from labkit.errors import BadValue


def test_waits_are_multiplied(monkeypatch: pytest.MonkeyPatch) -> None:
    """LABKIT_TIME_SCALE stretches every wait; without it nothing changes."""
    monkeypatch.delenv("LABKIT_TIME_SCALE", raising=False)
    assert scaled(0.5) == 0.5
    monkeypatch.setenv("LABKIT_TIME_SCALE", "3")
    assert scaled(0.5) == 1.5


@pytest.mark.parametrize("text", ["fast", "0", "-1", "inf", "nan", ""])
def test_a_scale_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """One sentence says what it takes."""
    monkeypatch.setenv("LABKIT_TIME_SCALE", text)
    with pytest.raises(BadValue, match="takes a positive number"):
        scaled(1)
