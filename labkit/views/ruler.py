"""How wide a text is, and how it is cut to a width."""

from __future__ import annotations

import functools
from typing import Any, Final

from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.font_manager import FontProperties, fontManager, get_font

__all__ = ["FAMILY", "Ruler", "drawable"]

#: The font that comes with matplotlib: it has every sign that a picture uses, on every machine.
FAMILY: Final = "DejaVu Sans"
#: Pixels per inch at which characters are measured: so many that rounding does not matter.
_DPI: Final = 720


@functools.lru_cache(maxsize=8192)
def _advance(character: str, size: float, weight: str) -> float:
    """The width of one character in inches; laying out a whole text takes twenty times as long as adding these up."""
    renderer: Any = RendererAgg(1, 1, _DPI)  # type: ignore[no-untyped-call] # matplotlib has no types for it
    font = FontProperties(family=FAMILY, size=size, weight=weight)
    # Between others, since the ink of a character says little of the distance to the next.
    width = renderer.get_text_width_height_descent(f"n{character}n", font, False)[0]
    around = renderer.get_text_width_height_descent("nn", font, False)[0]
    return float(width - around) / _DPI


class Ruler:
    """Measures text of one size and weight.

    Args:
        size: in points.
        weight: ``"normal"`` or ``"bold"``.
    """

    def __init__(self, size: float, weight: str = "normal") -> None:
        self._size, self._weight = size, weight

    def width(self, text: str) -> float:
        """Measure a text.

        Args:
            text: one line.

        Returns:
            Its width in inches.
        """
        return sum(_advance(character, self._size, self._weight) for character in text)

    def fit(self, text: str, room: float) -> str:
        """Shorten a text to the room that there is.

        Args:
            text: one line.
            room: inches.

        Returns:
            The text, or its beginning with ``…``; at least its first character.
        """
        if self.width(text) <= room:
            return text
        low, high = 1, len(text)
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self.width(text[:middle].rstrip() + "…") <= room else (low, middle - 1)
        return text[:low].rstrip() + "…"

    def wrap(self, text: str, room: float, most: int) -> list[str]:
        """Break a text into lines.

        Args:
            text: the text.
            room: the width of a line in inches.
            most: how many lines there may be; the last one is shortened.

        Returns:
            The lines.
        """
        lines: list[str] = []
        words = text.split()
        while words and len(lines) < most - 1:
            line = words.pop(0)
            while words and self.width(f"{line} {words[0]}") <= room:
                line += " " + words.pop(0)
            lines.append(self.fit(line, room))
        return [*lines, self.fit(" ".join(words), room)] if words else lines

    def balance(self, text: str, room: float, most: int) -> list[str]:
        """Break a text into as few lines as can be, and those of about the same length.

        Args:
            text: the text.
            room: the width of a line in inches.
            most: how many lines there may be.

        Returns:
            The lines; no last word stands alone where that can be avoided.
        """
        widest = self.wrap(text, room, most)
        for share in (0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95):
            lines = self.wrap(text, room * share, most + 1)
            if len(lines) == len(widest) > 1 and " ".join(lines) == " ".join(widest):
                return lines
        return widest


@functools.lru_cache(maxsize=4096)
def _drawable(character: str) -> bool:
    return bool(_charmap().get(ord(character)))


@functools.lru_cache(maxsize=1)
def _charmap() -> dict[int, int]:
    return dict(get_font(fontManager.findfont(FontProperties(family=FAMILY))).get_charmap())


def drawable(text: str) -> str:
    """Write what the font does not have, such as an emoji, as an escape, where matplotlib would warn and draw a box.

    Args:
        text: one line.

    Returns:
        A text that the font can draw.
    """
    return "".join(c if _drawable(c) else c.encode("ascii", "backslashreplace").decode("ascii") for c in text)
