"""Colours: Okabe and Ito's palette, which readers with any colour vision can tell apart, on light and on dark."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from labkit.errors import UnknownName
from labkit.timeline import Lane

__all__ = ["THEMES", "Theme", "contrast", "find_theme", "mix"]


@dataclass(frozen=True)
class Theme:
    """The colours of a picture, as ``#rrggbb``.

    Attributes:
        background: of the picture.
        shaded: of what follows the fault.
        stopped: of what follows the lab's own end of the experiment.
        ink: of text.
        muted: of text of less weight, and of lines.
        faint: of the lanes' own lines.
        alarm: of marks and lines that say fault or failure, and of nothing else.
        alarm_ink: the same for text.
        hues: of the lanes.
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
    """Blend two colours.

    Args:
        colour: the one.
        other: the other.
        share: how much of the other, from 0 to 1.

    Returns:
        The blend.
    """
    pairs = zip(_channels(colour), _channels(other), strict=True)
    return "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in pairs)


def contrast(colour: str, other: str) -> float:
    """Measure the contrast of two colours, as WCAG 2 defines it.

    Args:
        colour: the one.
        other: the other.

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
        UnknownName: there is none of this name.
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


# Orange and yellow are left out: the one is too near to vermilion, the other too pale on white.
_HUES: Final[dict[Lane, str]] = {
    "client": "#0072b2",  # blue
    "wire": "#5f6670",  # black, softened: the wire takes no side
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
            # Lighter, since the originals were chosen for white paper.
            hues=MappingProxyType({lane: mix(hue, "#ffffff", 0.25) for lane, hue in _HUES.items()}),
        ),
    }
)
