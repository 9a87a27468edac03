"""A figure that displays itself in a notebook, with an alternative text for readers who cannot see it."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Container
from typing import Any, Final

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from labkit.views.canvas.palette import Theme, find_theme

__all__ = ["Picture", "figure"]

#: Pixels per inch, as CSS defines them, and the number of image pixels in each direction for one CSS pixel.
_CSS: Final = 96
_DENSITY: Final = 2


class Picture(Figure):
    """A figure independent of pyplot, which therefore needs no closing and no ``%matplotlib``.

    Args:
        alt: the alternative text: what the picture shows, in words.
        size: the width and the height in inches.
        theme: the colours; the background is opaque, so that the picture is readable on a page of any colour.

    Attributes:
        alt: the alternative text.
        theme: the colours.
    """

    def __init__(self, alt: str, size: tuple[float, float], theme: Theme) -> None:
        super().__init__(figsize=size, dpi=_CSS, facecolor=theme.background)
        self.set_layout_engine("none")
        FigureCanvasAgg(self)
        self.alt = alt
        self.theme = theme

    def savefig(self, *args: Any, **options: Any) -> None:
        """Save the picture, like any matplotlib figure.

        Args:
            args: the positional arguments of ``Figure.savefig``.
            options: the keyword arguments of ``Figure.savefig``.
        """
        # The labels were measured without hinting, which makes letters wider.
        with mpl.rc_context({"text.hinting": "none"}):
            super().savefig(*args, **options)

    def png(self) -> bytes:
        """Draw the picture, with two pixels for each CSS pixel in each direction.

        Returns:
            The content of a PNG file.
        """
        canvas: Any = self.canvas  # matplotlib leaves half of its methods without types
        dpi = self.get_dpi()
        try:
            self.set_dpi(_CSS * _DENSITY)
            # At this resolution, hinting would take time and shift the letters.
            with mpl.rc_context({"text.hinting": "none"}):
                canvas.draw()
            size = canvas.get_width_height(physical=True)
            pixels = Image.frombytes("RGBA", size, bytes(canvas.buffer_rgba())).convert("RGB")
        finally:
            self.set_dpi(dpi)
        # The picture has flat areas in a few colours, so a palette of 256 loses nothing visible. It compresses faster,
        # and a notebook has to store only a quarter of the bytes.
        reduced = pixels.quantize(256, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
        buffer = io.BytesIO()
        reduced.save(buffer, format="png")
        return buffer.getvalue()

    def bundle(self, kinds: Container[str]) -> dict[str, Any]:
        """Draw the picture once for all MIME types.

        Args:
            kinds: the MIME types to make.

        Returns:
            The picture as ``image/png`` and as ``text/html``, as far as these are among ``kinds``.
        """
        wanted = [kind for kind in ("image/png", "text/html") if kind in kinds]
        if not wanted:
            return {}
        encoded = base64.b64encode(self.png()).decode("ascii")
        width = round(self.get_figwidth() * _CSS)
        forms = {
            "image/png": encoded,
            "text/html": f'<img alt="{html.escape(self.alt)}" width="{width}" style="max-width:100%;height:auto"'
            f' src="data:image/png;base64,{encoded}">',
        }
        return {kind: forms[kind] for kind in wanted}

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        from labkit.views.mime import choose

        return self.bundle(choose(("image/png", "text/html"), include, exclude))


def figure(alt: str, size: tuple[float, float] = (8.0, 4.0), *, theme: str = "light") -> Picture:
    """Make an empty figure for your own plot, in the lab's colours.

    Args:
        alt: the alternative text: what the plot shows, in words, for readers who cannot see it.
        size: the width and the height in inches.
        theme: ``"light"`` or ``"dark"``; each has its own opaque background.

    Returns:
        A matplotlib figure, independent of pyplot; a notebook displays it. Its ``theme`` has the colours: ``ink``,
        ``muted``, and ``hues`` by lane.

    Raises:
        UnknownName: there is no such theme.
    """
    return Picture(alt, size, find_theme(theme))
