"""Colours that can be read."""

from __future__ import annotations

import pytest

from labkit.events import LANES
from labkit.views.canvas.palette import THEMES, Theme, contrast, mix


def test_contrast_is_measured_as_the_standard_says() -> None:
    """Black on white is 21 to 1, a colour on itself 1 to 1."""
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#d55e00", "#d55e00") == pytest.approx(1)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)
    assert contrast("#333333", "#ffffff") == pytest.approx(12.63, abs=0.01)


def test_colours_are_blended_by_share() -> None:
    """A share of nought is the one, of one the other."""
    assert (mix("#000000", "#ffffff", 0), mix("#000000", "#ffffff", 1)) == ("#000000", "#ffffff")
    assert mix("#000000", "#ff0080", 0.5) == "#800040"


@pytest.mark.parametrize("theme", THEMES.values(), ids=THEMES)
def test_every_text_can_be_read_on_every_ground(theme: Theme) -> None:
    """Text has the contrast that WCAG asks for, 4.5 to 1, also on the shades; marks have 2 to 1 and a shape."""
    for ground in (theme.background, theme.shaded, theme.stopped):
        for ink in (theme.ink, theme.muted, theme.alarm_ink):
            assert contrast(ink, ground) >= 4.5, f"{ink} on {ground}"
        for hue in theme.hues.values():
            assert contrast(hue, ground) >= 2, f"{hue} on {ground}"
        assert contrast(theme.alarm, ground) >= 3


@pytest.mark.parametrize("theme", THEMES.values(), ids=THEMES)
def test_no_lane_has_the_colour_of_failure(theme: Theme) -> None:
    """Vermilion is nobody's hue."""
    assert theme.alarm not in theme.hues.values()
    assert len(set(theme.hues.values())) == len(LANES)
