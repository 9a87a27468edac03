"""Axes whose unit is the inch, and the few kinds of matplotlib artists that a picture consists of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.font_manager import FontProperties

from labkit.views.canvas.ruler import FAMILY

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Artists", "Position", "box"]

#: A position in inches from the left and from the top.
Position = tuple[float, float]


class Artists:
    """Adds artists to a figure. Each has a ``gid`` that says what it is; many marks or lines are one artist.

    Args:
        figure: the figure.
        width: its width in inches.
        height: its height in inches.
    """

    def __init__(self, figure: Figure, width: float, height: float) -> None:
        self.axes = figure.add_axes((0, 0, 1, 1))
        self.axes.set_axis_off()
        # In inches in both directions; otherwise the heads of the arrows would be distorted.
        self.axes.set_xlim(0, width)
        self.axes.set_ylim(height, 0)
        self.axes.autoscale(False)

    def areas(self, gid: str, areas: Sequence[Sequence[Position]], colours: Sequence[str], zorder: float) -> None:
        """Add filled areas, each with its colour."""
        if areas:
            collection = PolyCollection(areas, facecolors=colours, edgecolors="none", zorder=zorder, gid=gid)
            self.axes.add_collection(collection, autolim=False)

    def lines(
        self,
        gid: str,
        lines: Sequence[Sequence[Position]],
        colours: Sequence[str],
        zorder: float,
        *,
        widths: float,
        styles: Sequence[str] = ("solid",),
    ) -> None:
        """Add lines, each with its colour and its style; the widths are in points."""
        if lines:
            collection = LineCollection(
                lines, colors=colours, linewidths=widths, linestyles=styles, zorder=zorder, gid=gid
            )
            self.axes.add_collection(collection, autolim=False)

    def marks(
        self,
        gid: str,
        marker: str,
        positions: Sequence[Position],
        zorder: float,
        *,
        size: float,
        colours: Any,
        rims: Any,
        rim: float = 0.8,
    ) -> None:
        """Add marks of one shape. Sizes are in points; the rim separates a mark from the lines behind it."""
        if positions:
            xs, ys = zip(*positions, strict=True)
            # × consists of lines and has no area, so it has no rim.
            outline = {"linewidths": 2.2} if marker == "x" else {"linewidths": rim, "edgecolors": rims}
            self.axes.scatter(xs, ys, s=size**2, c=colours, marker=marker, zorder=zorder, gid=gid, **outline)

    def write(
        self,
        gid: str,
        position: Position,
        text: str,
        colour: str,
        size: float,
        *,
        ha: Any = "left",
        weight: str = "normal",
        style: Any = "normal",
        vertical: bool = False,
    ) -> None:
        """Add a text; the size is in points. A vertical text begins at its position and runs upwards."""
        self.axes.text(
            *position,
            text,
            color=colour,
            fontproperties=FontProperties(family=FAMILY, size=size, weight=weight, style=style),
            ha=ha,
            va="bottom" if vertical else "center" if "\n" in text else "center_baseline",
            rotation=90 if vertical else 0,
            multialignment="left",
            linespacing=1.15,
            zorder=6,
            gid=gid,
            # A dollar sign in a message must stay one, even if the user's settings turn mathematics or TeX on.
            parse_math=False,
            usetex=False,
        )


def box(left: float, top: float, right: float, bottom: float) -> list[Position]:
    """Return the corners of a box."""
    return [(left, top), (right, top), (right, bottom), (left, bottom)]
