"""Colours, for a light and a dark theme.

They are the palette of Okabe and Ito, which readers with any colour vision can tell apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from labkit.errors import UnknownName
from labkit.events import Lane

__all__ = ["THEMES", "Theme", "contrast", "find_theme", "mix"]


@dataclass(frozen=True)
class Theme:
    """The colours of a picture, as ``#rrggbb``.

    Attributes:
        background: the background of the picture.
        shaded: the background after the fault.
        stopped: the background after the end of the experiment.
        ink: text.
        muted: less important text, and lines.
        faint: the lines of the lanes.
        alarm: marks and lines of faults and failures; nothing else has this colour.
        alarm_ink: text of faults and failures.
        hues: the colour of each lane.
    """

    background: str
    shaded: str
    stopped: str
    ink: str
    muted: str
    faint: str
    alarm: str
    alarm_ink: str
    hues: Mapping[Lane, str]


def mix(colour: str, other: str, share: float) -> str:
    """Mix two colours.

    Args:
        colour: the first colour.
        other: the second colour.
        share: the share of the second colour, from 0 to 1.

    Returns:
        The mixed colour.
    """
    pairs = zip(_channels(colour), _channels(other), strict=True)
    return "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in pairs)


def contrast(colour: str, other: str) -> float:
    """Compute the contrast ratio of two colours, as WCAG 2 defines it.

    Args:
        colour: the first colour.
        other: the second colour.

    Returns:
        The ratio, from 1 to 21.
    """
    low, high = sorted((_luminance(colour), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


def find_theme(name: str) -> Theme:
    """Find a theme.

    Args:
        name: ``"light"`` or ``"dark"``.

    Returns:
        The theme.

    Raises:
        UnknownName: no theme has this name.
    """
    if name not in THEMES:
        raise UnknownName("theme", name, THEMES)
    return THEMES[name]


def _channels(colour: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(colour.removeprefix("#")))


def _luminance(colour: str) -> float:
    shares = [channel / 255 for channel in _channels(colour)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in shares)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


# The palette's orange is not used: it is too similar to vermilion.
_HUES: Final[dict[Lane, str]] = {
    "client": "#0072b2",  # blue
    "wire": "#5f6670",  # black, lightened to a neutral grey, since the wire belongs to neither side
    "library": "#8f7f00",  # yellow, darkened, since it would be too pale on white
    "handler": "#009e73",  # bluish green
    "cleanup": "#cc79a7",  # reddish purple
    "loop": "#56b4e9",  # sky blue
}
_VERMILION: Final = "#d55e00"
_DARK: Final = "#15181d"

THEMES: Final[Mapping[str, Theme]] = MappingProxyType(
    {
        "light": Theme(
            background="#ffffff",
            shaded=mix("#ffffff", _VERMILION, 0.08),
            stopped="#eef0f2",
            ink="#1b1f24",
            muted="#5a626c",
            faint="#c5cad0",
            alarm=_VERMILION,
            alarm_ink="#a54600",
            hues=MappingProxyType(_HUES),
        ),
        "dark": Theme(
            background=_DARK,
            shaded=mix(_DARK, _VERMILION, 0.13),
            stopped="#24282e",
            ink="#e9ebee",
            muted="#a9b0b9",
            faint="#474d55",
            alarm=mix(_VERMILION, "#ffffff", 0.1),
            alarm_ink=mix(_VERMILION, "#ffffff", 0.4),
            # Lightened, since the original colours are meant for a white background.
            hues=MappingProxyType({lane: mix(hue, "#ffffff", 0.25) for lane, hue in _HUES.items()}),
        ),
    }
)
