"""Where things are on the sheet, and how much text fits between them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from labkit.events import LANES, Lane
from labkit.views.canvas.ruler import Ruler
from labkit.views.sequence.geometry import Label, columns_of, label_of, remark_at
from labkit.views.sequence.plan import Bar, Mark, Plan, Remark

RULER = Ruler(8.0)
LONG = "a label of many words that has no room on either side of its mark " * 4


def sheet(*lanes: Lane, bars: tuple[Bar, ...] = (), remarks: tuple[Remark, ...] = ()) -> Plan:
    """A plan of two rows."""
    return Plan(
        lanes=lanes, rows=2, marks=[], arrows=[], bars=list(bars), remarks=list(remarks), folds=[], fault=None,
        stop=None, origin="connect",
    )  # fmt: skip


def labelled(plan: Plan, lane: Lane, text: str = "a label", *, row: int = 1, flow: str = "") -> Label:
    mark = Mark(row=row, lane=lane, shape="say", failed=False, label=text, at=0.0, flow=flow)
    return label_of(mark, plan, columns_of(plan, 8.0), RULER)


def test_labels_of_the_outer_lanes_stand_to_the_left() -> None:
    """The loop's stand at its left, since there is no room behind it; the client's too; all others at the right."""
    plan = sheet(*LANES)
    assert {lane: labelled(plan, lane).side for lane in LANES} == {
        "client": "left",
        "wire": "right",
        "library": "right",
        "handler": "right",
        "cleanup": "right",
        "loop": "left",
    }


@pytest.mark.parametrize("flow", ["left", "right"])
def test_a_label_on_an_arrow_gives_way_to_it(flow: str) -> None:
    """An arrow runs down, so on its way out it is below the mark, and the label is a little higher than the mark."""
    plan = sheet("client", "wire", "handler")
    label = labelled(plan, "wire", flow=flow)
    assert label.side == flow
    assert label.offset < 0
    assert labelled(plan, "wire").offset == 0


def test_a_label_on_the_other_side_of_an_arrow_is_lower() -> None:
    """There the arrow comes in from above."""
    plan = sheet("client", "wire", "handler", bars=(Bar("client", 0, 2, False),))
    label = labelled(plan, "wire", "a label too long for the left", flow="left")
    assert label.side == "right"
    assert label.offset > 0


def test_a_label_ends_before_the_bar_of_another_lane() -> None:
    """In each of the bar's rows, the first and the last included; where there is no bar, it may go on."""
    client = Bar("client", 0, 2, False)  # so that the other side has no more room
    for bar in (Bar("handler", 0, 1, True), Bar("handler", 1, 2, False)):
        plan = sheet("client", "wire", "handler", bars=(client, bar))
        label = labelled(plan, "wire", LONG)
        assert label.x + label.width < columns_of(plan, 8.0).x("handler") - 0.05
    free = sheet("client", "wire", "handler", bars=(client, Bar("handler", 0, 0, True)))
    label = labelled(free, "wire", LONG)
    assert label.x + label.width > columns_of(free, 8.0).x("handler")


def test_a_label_leaves_room_for_a_remark() -> None:
    """The handler's remark stands to the right of its lane, where the label would go on; the client's, to the left."""
    plan = sheet("client", "wire", "handler")
    handler = replace(plan, remarks=[Remark(1, "handler", "still running")])
    client = replace(plan, remarks=[Remark(1, "client", "still open")])
    assert labelled(handler, "wire", LONG).width < labelled(plan, "wire", LONG).width
    label = labelled(client, "wire", "a label of words", flow="left")
    assert (label.side, label) == ("left", labelled(plan, "wire", "a label of words", flow="left"))


def test_beside_several_bars_a_remark_gives_way_to_the_loop() -> None:
    """The label of the lab's end comes from the right, and is whole; the remark is on the other side of the bars."""
    stop = Mark(row=1, lane="loop", shape="end", failed=False, label="the lab ends the experiment", at=0.0)
    bars = tuple(Bar("handler", 0, 2, False, slot=slot) for slot in (0, 1))
    remark = Remark(1, "handler", "2 still running", 1)
    plan = replace(
        sheet("client", "wire", "library", "handler", "loop", bars=bars, remarks=(remark,)), marks=[stop], several=True
    )
    columns = columns_of(plan, 8.0)
    assert " ".join(label_of(stop, plan, columns, RULER).lines) == "the lab ends the experiment"
    edge, side = remark_at(remark, plan, columns)
    assert (edge < columns.x("handler", 0), side) == (True, "left")
    edge, side = remark_at(remark, replace(plan, marks=[]), columns)
    assert (edge > columns.x("handler", 1), side) == (True, "right")


@pytest.mark.parametrize("lines", [3, 4, 5])
def test_a_label_of_several_lines_is_whole(lines: int) -> None:
    """Two lines are the rule; up to five are taken where they save the end of the label, and not where they do not."""
    client = Bar("client", 0, 2, False)  # so that the other side has no more room
    plan = sheet("client", "wire", "handler", bars=(client, Bar("handler", 0, 2, True)))
    text = " ".join(["word"] * 10)
    while len(labelled(plan, "wire", text).lines) < lines:
        text += " word"
        assert len(text) < 500
    assert " ".join(labelled(plan, "wire", text).lines) == text
    cut = labelled(plan, "wire", LONG)
    assert (len(cut.lines), cut.lines[-1][-1]) == (2, "…")
