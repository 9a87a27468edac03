"""A figure that shows itself in a notebook, with a text for those who do not see it."""

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

__all__ = ["Picture"]

#: Pixels per inch of a page, as CSS has it, and how many of the screen's pixels are drawn for each of them.
_CSS: Final = 96
_DENSITY: Final = 2


class Picture(Figure):
    """A figure outside pyplot: none is left open, and a notebook shows it without ``%matplotlib``.

    Args:
        alt: what the picture shows, in words.
        size: width and height in inches.
        background: its colour; opaque, so that it can be read on a page of any colour.
    """

    def __init__(self, alt: str, size: tuple[float, float], background: str) -> None:
        super().__init__(figsize=size, dpi=_CSS, facecolor=background)
        self.set_layout_engine("none")
        FigureCanvasAgg(self)
        self.alt = alt

    def savefig(self, *args: Any, **options: Any) -> None:
        """Save the picture as any matplotlib figure is saved.

        Args:
            args: those of ``Figure.savefig``.
            options: those of ``Figure.savefig``.
        """
        # Hinted letters are wider than those that the labels were measured with.
        with mpl.rc_context({"text.hinting": "none"}):
            super().savefig(*args, **options)

    def png(self) -> bytes:
        """Draw the picture, at two pixels for each of the page's.

        Returns:
            A PNG file.
        """
        canvas: Any = self.canvas  # matplotlib leaves half of its methods without types
        dpi = self.get_dpi()
        try:
            self.set_dpi(_CSS * _DENSITY)
            # At this density hinting adds time, and takes the letters out of their places.
            with mpl.rc_context({"text.hinting": "none"}):
                canvas.draw()
            size = canvas.get_width_height(physical=True)
            pixels = Image.frombytes("RGBA", size, bytes(canvas.buffer_rgba())).convert("RGB")
        finally:
            self.set_dpi(dpi)
        # Flat areas in a few colours: a palette is no loss to the eye, takes less time to compress, and a notebook
        # keeps a quarter of the bytes.
        few = pixels.quantize(256, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
        buffer = io.BytesIO()
        few.save(buffer, format="png")
        return buffer.getvalue()

    def bundle(self, kinds: Container[str]) -> dict[str, Any]:
        """Draw the picture once, for all the forms in which it is wanted.

        Args:
            kinds: MIME types.

        Returns:
            Those of ``image/png`` and ``text/html`` that are among them.
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
        from labkit.views.mime import chosen

        return self.bundle(chosen(("image/png", "text/html"), include, exclude))
