"""The sheet as matplotlib's axes, measured in inches, and the few kinds of artists that a picture is made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.font_manager import FontProperties

from labkit.views.ruler import FAMILY

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Artists", "Place", "box"]

#: Inches from the left and from the top.
Place = tuple[float, float]


class Artists:
    """Adds artists to a figure, each with a ``gid`` that says what it is; many marks or lines are one artist.

    Args:
        figure: the figure.
        width: its width in inches.
        height: its height in inches.
    """

    def __init__(self, figure: Figure, width: float, height: float) -> None:
        self.axes = figure.add_axes((0, 0, 1, 1))
        self.axes.set_axis_off()
        # In inches, so that an arrow's head has the shape it was given.
        self.axes.set_xlim(0, width)
        self.axes.set_ylim(height, 0)
        self.axes.autoscale(False)

    def areas(self, gid: str, areas: Sequence[Sequence[Place]], colours: Sequence[str], zorder: float) -> None:
        """Add filled areas, each with its colour."""
        if areas:
            collection = PolyCollection(areas, facecolors=colours, edgecolors="none", zorder=zorder, gid=gid)
            self.axes.add_collection(collection, autolim=False)

    def lines(
        self,
        gid: str,
        lines: Sequence[Sequence[Place]],
        colours: Sequence[str],
        zorder: float,
        *,
        widths: float,
        styles: Sequence[str] = ("solid",),
    ) -> None:
        """Add lines, each with its colour and its style; the width is in points."""
        if lines:
            collection = LineCollection(
                lines, colors=colours, linewidths=widths, linestyles=styles, zorder=zorder, gid=gid
            )
            self.axes.add_collection(collection, autolim=False)

    def marks(
        self,
        gid: str,
        marker: str,
        places: Sequence[Place],
        zorder: float,
        *,
        size: float,
        colours: Any,
        rims: Any,
        rim: float = 0.8,
    ) -> None:
        """Add marks of one shape; sizes are in points, and the rim parts a mark from what it lies on."""
        if places:
            xs, ys = zip(*places, strict=True)
            # × is a line without an inside.
            look = {"linewidths": 2.2} if marker == "x" else {"linewidths": rim, "edgecolors": rims}
            self.axes.scatter(xs, ys, s=size**2, c=colours, marker=marker, zorder=zorder, gid=gid, **look)

    def write(
        self,
        gid: str,
        place: Place,
        text: str,
        colour: str,
        size: float,
        *,
        ha: Any = "left",
        weight: str = "normal",
        style: Any = "normal",
        upright: bool = False,
    ) -> None:
        """Add a text; the size is in points. One that stands upright begins at its place and reads upwards."""
        self.axes.text(
            *place,
            text,
            color=colour,
            fontproperties=FontProperties(family=FAMILY, size=size, weight=weight, style=style),
            ha=ha,
            va="bottom" if upright else "center" if "\n" in text else "center_baseline",
            rotation=90 if upright else 0,
            multialignment="left",
            linespacing=1.15,
            zorder=6,
            gid=gid,
            # Neither mathematics nor TeX: a dollar in a message is a dollar, whatever the user's settings are.
            parse_math=False,
            usetex=False,
        )


def box(left: float, top: float, right: float, bottom: float) -> list[Place]:
    """Give the corners of a box."""
    return [(left, top), (right, top), (right, bottom), (left, bottom)]
