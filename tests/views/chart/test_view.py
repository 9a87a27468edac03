"""The chart of a matrix: what is drawn, and that it can be read."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pytest
from matplotlib.colors import to_hex
from PIL import Image

from labkit.errors import BadValue, UnknownName
from labkit.outcome import OUTCOMES, Cell
from labkit.views.canvas.palette import THEMES, contrast, mix
from labkit.views.canvas.picture import Picture
from labkit.views.canvas.ruler import drawable
from labkit.views.chart.grid import LOOKS, arrange, counted
from labkit.views.chart.view import chart
from labkit.views.chart.words import chart_alt
from tests.views import tables
from tests.views.tables import cell, cells

LONG = "a_handler_with_a_very_long_name_that_goes_on_and_on"
AWKWARD = [
    cell(word, handler, "aiohttp", fault)
    for handler in (LONG + "_one", LONG + "_two", "Räume.$lobby$ 🚪")
    for word, fault in (("cut", f"close(code=4000, reason='{'a reason of many words ' * 4}')"), ("missing", "fin"))
]

SIZES = {
    "1x1": cells(1, 1, 1),
    "2x3": cells(2, 1, 3),
    "6x8": cells(2, 3, 8),
    "15x16": cells(5, 3, 16),
    "15x25": cells(),
    "awkward": AWKWARD,
    "long families": [replace(cell("cut", fault=f"f{n}"), family=f"a family with a long name {n}") for n in range(4)],
    "no run": [Cell("echo", "aiohttp", "transport", "fin", reason="ValueError: " + "no " * 200)],
}


def texts(picture: Picture, *gids: str) -> list[Any]:
    return [text for text in picture.axes[0].texts if not gids or text.get_gid() in gids]


def boxes(picture: Picture) -> dict[Any, Any]:
    """Where each text is, in inches from the lower left."""
    renderer = picture.canvas.get_renderer()  # type: ignore[attr-defined]
    return {
        text: text.get_window_extent(renderer).transformed(picture.dpi_scale_trans.inverted())
        for text in texts(picture)
    }


@pytest.mark.parametrize("given", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("worst_first", [False, True])
def test_no_text_lies_on_another(given: list[Cell], worst_first: bool) -> None:
    """From one cell to fifteen rows of twenty-five; nor does any leave the picture."""
    picture = chart(given, worst_first=worst_first)
    found = boxes(picture)
    for text, place in found.items():
        assert place.x0 >= 0.1, text
        assert place.y0 >= 0.05, text
        assert place.x1 <= picture.get_figwidth() - 0.05, text
        assert place.y1 <= picture.get_figheight() - 0.05, text
    across = sorted(found.items(), key=lambda item: item[1].x0)
    for n, (one, here) in enumerate(across):
        for other, there in across[n + 1 :]:
            if there.x0 >= here.x1:
                break
            apart = here.y1 <= there.y0 + 0.03 or there.y1 <= here.y0 + 0.03
            assert apart, f"{one.get_text()!r} and {other.get_text()!r}"


@pytest.mark.parametrize("given", SIZES.values(), ids=SIZES)
def test_every_word_is_in_its_cell(given: list[Cell]) -> None:
    """Each cell has one word, and the word has room."""
    picture = chart(given)
    [areas] = [c for c in picture.axes[0].collections if c.get_gid() == "cells"]
    height = picture.get_figheight()
    squares = [(path.vertices[:, 0], height - path.vertices[:, 1]) for path in areas.get_paths()]
    found = boxes(picture)
    words = texts(picture, "word")
    assert [word.get_text() for word in words] == [c.outcome for c in arrange(given).cells.values()]
    for word, (xs, ys) in zip(words, squares, strict=True):
        assert min(xs) + 0.01 < found[word].x0
        assert found[word].x1 < max(xs) - 0.01
        assert min(ys) < found[word].y0 + 0.02
        assert found[word].y1 < max(ys)


def test_heads_lie_where_they_have_room() -> None:
    """A few columns are as wide as their heads; where there are many, the heads stand, and the picture stays narrow."""
    few, many = chart(cells(2, 1, 3)), chart(cells())
    assert {text.get_rotation() for text in texts(few, "fault")} == {0}
    assert {text.get_rotation() for text in texts(many, "fault")} == {90}
    assert many.get_figwidth() < 20


def test_each_outcome_has_a_mark_of_its_own() -> None:
    """Whoever sees no colour has the mark and the word; vermilion is failure, and nothing else."""
    assert set(LOOKS) == set(OUTCOMES)
    assert len({(look.marker, look.hollow) for look in LOOKS.values()}) == len(LOOKS)
    assert len({look.sign for look in LOOKS.values()}) == len(LOOKS)
    assert all(drawable(look.sign) == look.sign for look in LOOKS.values())
    failures = {word for word, look in LOOKS.items() if look.hue is None}
    assert failures == {"hangs", "unserved", "blocks", "leaked", "missing", "cut"}
    picture = chart(cells())
    vermilion = set()
    for collection in picture.axes[0].collections:
        gid, _, word = str(collection.get_gid()).partition(":")
        colours = {to_hex(colour) for colour in (*collection.get_facecolor(), *collection.get_edgecolor())}
        if gid == "marks" and THEMES["light"].alarm in colours:
            vermilion.add(word)
    assert vermilion == failures


@pytest.mark.parametrize("theme", THEMES)
def test_every_word_can_be_read_on_its_cell(theme: str) -> None:
    """Text has 4.5 to 1 on its ground, marks 1.5 to 1 and a shape; and the picture brings its own background."""
    picture = chart(cells(), theme=theme)
    [areas] = [c for c in picture.axes[0].collections if c.get_gid() == "cells"]
    for word, ground in zip(texts(picture, "word"), areas.get_facecolor(), strict=True):
        assert contrast(word.get_color(), to_hex(ground)) >= 4.5, word.get_text()
    assert to_hex(picture.get_facecolor()) == THEMES[theme].background
    for text in texts(picture, "family", "fault", "stack", "handler", "meaning", "title"):
        assert contrast(text.get_color(), THEMES[theme].background) >= 4.5


def test_the_legend_has_what_is_there_the_worst_first() -> None:
    """And no word that the cells do not have."""
    given = [cell("clean", fault="fin"), cell("cut", fault="reset"), cell("noisy", fault="half-close")]
    picture = chart(given)
    assert [text.get_text() for text in texts(picture, "key")] == ["cut", "noisy", "clean"]
    assert [text.get_text() for text in texts(picture, "title")] == ["3 cells: 1 clean, 1 noisy, 1 cut"]


def test_rows_and_columns_stand_in_their_groups() -> None:
    """In the order in which they were given, or the worst first, both ways or one."""
    given = [
        cell("clean", "a", "aiohttp", "close"),
        cell("noisy", "a", "aiohttp", "fin"),
        cell("clean", "a", "aiohttp", "reset"),
        cell("clean", "b", "aiohttp", "close"),
        cell("raised", "b", "aiohttp", "fin"),
        cell("clean", "b", "aiohttp", "reset"),
        cell("clean", "a", "websockets", "close"),
        cell("cut", "a", "websockets", "fin"),
        cell("missing", "a", "websockets", "reset"),
    ]

    def drawn(**options: Any) -> tuple[list[str], ...]:
        picture = chart(given, **options)
        return tuple([t.get_text() for t in texts(picture, gid)] for gid in ("stack", "handler", "family", "fault"))

    rows, worst_rows = (["aiohttp", "websockets"], ["a", "b", "a"]), (["websockets", "aiohttp"], ["a", "b", "a"])
    columns = (["closing", "transport"], ["close", "fin", "reset"])
    worst_columns = (["transport", "closing"], ["fin", "reset", "close"])
    assert drawn() == rows + columns
    assert drawn(worst_first=True) == worst_rows + worst_columns
    assert drawn(worst_first="rows") == worst_rows + columns
    assert drawn(worst_first="columns") == rows + worst_columns
    aiohttp = [c for c in given if c.stack == "aiohttp"]
    assert list(arrange(aiohttp, worst_first=True).stacks["aiohttp"]) == ["b", "a"]


def test_it_shows_itself_and_refuses_what_it_cannot_draw() -> None:
    """A picture with its words, outside pyplot."""
    picture = chart(cells(2, 1, 3), title="")
    assert picture.alt == chart_alt(cells(2, 1, 3))
    assert not texts(picture, "title")
    width, height = Image.open(io.BytesIO(picture.png())).size
    assert (width, height) == tuple(int(inches * 192) for inches in picture.get_size_inches())
    with pytest.raises(BadValue, match="there are no cells"):
        chart([])
    with pytest.raises(BadValue, match="worst_first='both'"):
        chart(cells(1, 1, 1), worst_first="both")  # type: ignore[arg-type]
    with pytest.raises(UnknownName, match="no theme 'drak'"):
        chart(cells(1, 1, 1), theme="drak")


def test_the_tables_here_have_every_outcome() -> None:
    """What is not drawn is not tested."""
    assert list(counted(cells())) == list(OUTCOMES)
    assert sum(map(len, tables.FAMILIES.values())) == 25


def test_the_mean_is_what_makes_a_row_bad() -> None:
    """One failure among clean cells is better than a row of exceptions."""
    words = {"one_cut": ("cut", "clean", "clean"), "all_raise": ("raised", "raised", "raised")}
    given = [
        cell(word, handler, fault=fault)  # type: ignore[arg-type]
        for handler, row in words.items()
        for word, fault in zip(row, ("fin", "reset", "half-close"), strict=True)
    ]
    assert list(arrange(given, worst_first=True).stacks["aiohttp"]) == ["all_raise", "one_cut"]


def test_a_hollow_mark_is_an_outline() -> None:
    """It shows the cell's background, and a filled one its hue."""
    picture = chart([cell("clean", fault="fin"), cell("unaware", fault="reset")])
    light = THEMES["light"]
    marks = {str(c.get_gid()): c for c in picture.axes[0].collections}
    filled, hollow = marks["marks:clean"], marks["marks:unaware"]
    assert to_hex(filled.get_facecolor()[0]) == light.hues["handler"]
    assert to_hex(hollow.get_facecolor()[0]) == mix(light.background, light.hues["client"], 0.16)
    assert to_hex(hollow.get_edgecolor()[0]) == light.hues["client"]


def test_a_long_name_goes_on_in_a_second_line() -> None:
    """Where the first line ends, the second one begins."""
    [name] = {text.get_text() for text in texts(chart([cell("clean", LONG)]), "handler")}
    first, second = name.split("\n")
    assert LONG.startswith(first + second.removesuffix("…"))


def test_the_reasons_of_cells_without_a_run_stand_below() -> None:
    """With the number of their cells; three reasons have room."""
    lost = [Cell("echo", "aiohttp", "transport", f"f{n}", reason=f"reason {n // 2}") for n in range(8)]
    notes = [text.get_text() for text in texts(chart([*lost, cell("clean")]), "footnote")]
    assert notes == ["2 × unknown: reason 0", "2 × unknown: reason 1", "2 × unknown: reason 2"]
