"""A figure for a plot of one's own."""

from __future__ import annotations

import pytest

import labkit
from labkit.errors import UnknownName


def test_a_plot_of_ones_own_shows_itself_with_its_words() -> None:
    """It is drawn on the theme's ground, in the lanes' colours, and says in words what it shows."""
    picture = labkit.figure("Seconds <by> heartbeat", (6, 3))
    axes = picture.add_axes((0.1, 0.2, 0.8, 0.7))
    axes.plot([1, 2], [1.5, 3], color=picture.theme.hues["handler"])
    shown = picture._repr_mimebundle_()
    assert 'alt="Seconds &lt;by&gt; heartbeat"' in shown["text/html"]
    assert set(shown) == {"image/png", "text/html"}


def test_it_has_a_light_and_a_dark_theme() -> None:
    """A third gets one sentence that names the two."""
    light, dark = labkit.figure("x"), labkit.figure("x", theme="dark")
    assert light.get_facecolor() != dark.get_facecolor()
    with pytest.raises(UnknownName, match=r"The themes are: dark, light\."):
        labkit.figure("x", theme="sepia")
