"""Measuring the width of a text, and fitting a text into a width."""

from __future__ import annotations

import functools
import re
from typing import Any, Final

from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.font_manager import FontProperties, fontManager, get_font

__all__ = ["FAMILY", "Ruler", "drawable"]

#: The font that comes with matplotlib. Every machine has it, and it has every sign that a picture uses.
FAMILY: Final = "DejaVu Sans"
#: The resolution at which characters are measured, in pixels per inch; high enough that rounding does not matter.
_DPI: Final = 720
#: What stays on one line: a word, or a number with what it counts.
_WORDS: Final = re.compile(r"\S*\d (?:ms|s|complaints?)(?!\w)\S*|\S+")


@functools.lru_cache(maxsize=8192)
def _advance(character: str, size: float, weight: str) -> float:
    """The width of one character in inches. Adding these up is twenty times as fast as laying out a whole text."""
    renderer: Any = RendererAgg(1, 1, _DPI)  # type: ignore[no-untyped-call] # matplotlib has no types for it
    font = FontProperties(family=FAMILY, size=size, weight=weight)
    # Measured between two letters, because the visible width of a character is not the distance to the next one.
    width = renderer.get_text_width_height_descent(f"n{character}n", font, False)[0]
    around = renderer.get_text_width_height_descent("nn", font, False)[0]
    return float(width - around) / _DPI


class Ruler:
    """Measures text of one size and weight.

    Args:
        size: the size of the letters in points.
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

    def fit(self, text: str, max_width: float) -> str:
        """Shorten a text to a width.

        Args:
            text: one line.
            max_width: the available width in inches.

        Returns:
            The text, or its beginning and ``…``; at least its first character.
        """
        if self.width(text) <= max_width:
            return text
        low, high = 1, len(text)
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self.width(text[:middle].rstrip() + "…") <= max_width else (low, middle - 1)
        return text[:low].rstrip() + "…"

    def wrap(self, text: str, max_width: float, max_lines: int) -> list[str]:
        """Break a text into lines.

        Args:
            text: the text.
            max_width: the available width in inches.
            max_lines: the highest number of lines; the last line is shortened if necessary.

        Returns:
            The lines.
        """
        lines: list[str] = []
        words = _WORDS.findall(text)
        while words and len(lines) < max_lines - 1:
            line = words.pop(0)
            while words and self.width(f"{line} {words[0]}") <= max_width:
                line += " " + words.pop(0)
            lines.append(self.fit(line, max_width))
        return [*lines, self.fit(" ".join(words), max_width)] if words else lines

    def balance(self, text: str, max_width: float, max_lines: int) -> list[str]:
        """Break a text into as few lines as possible, of about the same length.

        Args:
            text: the text.
            max_width: the available width in inches.
            max_lines: the highest number of lines.

        Returns:
            The lines. If possible, the last line has more than one word.
        """
        widest = self.wrap(text, max_width, max_lines)
        for share in (0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95):
            lines = self.wrap(text, max_width * share, max_lines + 1)
            if len(lines) == len(widest) > 1 and " ".join(lines) == " ".join(widest):
                return lines
        return widest


@functools.lru_cache(maxsize=4096)
def _has_glyph(character: str) -> bool:
    return bool(_charmap().get(ord(character)))


@functools.lru_cache(maxsize=1)
def _charmap() -> dict[int, int]:
    return dict(get_font(fontManager.findfont(FontProperties(family=FAMILY))).get_charmap())


def drawable(text: str) -> str:
    """Escape the characters that the font does not have, such as emoji. matplotlib would warn and draw boxes instead.

    Args:
        text: one line.

    Returns:
        A text that the font can draw.
    """
    return "".join(c if _has_glyph(c) else c.encode("ascii", "backslashreplace").decode("ascii") for c in text)
