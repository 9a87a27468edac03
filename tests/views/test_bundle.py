"""A run in a notebook."""

from __future__ import annotations

import base64
import io
from html.parser import HTMLParser

import pytest
from PIL import Image

from labkit.views.alt import alt_text
from labkit.views.bundle import mimebundle
from labkit.views.canvas.picture import Picture
from labkit.views.sequence.view import sequence
from labkit.views.text import text
from tests.views import stories


class Images(HTMLParser):
    """Collects the images of a page, and its other tags."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.images: list[dict[str, str | None]] = []
        self.others: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep a tag."""
        if tag == "img":
            self.images.append(dict(attrs))
        else:
            self.others.append(tag)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Picture]:
    """The pictures that have been turned into PNG."""
    pictures: list[Picture] = []
    png = Picture.png

    def counting(picture: Picture) -> bytes:
        pictures.append(picture)
        return png(picture)

    monkeypatch.setattr(Picture, "png", counting)
    return pictures


def test_a_run_is_text_and_one_picture_with_words(drawn: list[Picture]) -> None:
    """Text for a terminal; for a notebook one image, with its words, drawn once at double density."""
    story = stories.truncated()
    timeline, verdict = story.then("loop", "leaked", 'task "<b>&amp;"', what="task").told
    bundle = mimebundle(timeline, verdict)
    assert set(bundle) == {"text/plain", "image/png", "text/html"}
    assert bundle["text/plain"] == text(timeline, verdict)
    page = Images(bundle["text/html"])
    (image,) = page.images
    assert page.others == []
    assert image["alt"] == alt_text(timeline, verdict)
    assert image["src"] == f"data:image/png;base64,{bundle['image/png']}"
    assert "max-width:100%" in str(image["style"])
    picture = Image.open(io.BytesIO(base64.b64decode(bundle["image/png"])))
    assert picture.size[0] == 2 * int(str(image["width"])) == 1536
    assert len(drawn) == 1


@pytest.mark.parametrize(
    ("include", "exclude", "kinds", "times"),
    [
        (["text/plain"], None, {"text/plain"}, 0),
        (None, ["text/html", "image/png"], {"text/plain"}, 0),
        (["image/png"], None, {"image/png"}, 1),
        (["text/html", "text/plain"], ["text/plain"], {"text/html"}, 1),
        ((), (), {"text/plain", "image/png", "text/html"}, 1),
    ],
)
def test_include_and_exclude_are_honoured(
    include: list[str] | None, exclude: list[str] | None, kinds: set[str], times: int, drawn: list[Picture]
) -> None:
    """What is not asked for is not made."""
    assert set(mimebundle(*stories.short().told, include=include, exclude=exclude)) == kinds
    assert len(drawn) == times


def test_a_picture_shows_itself(drawn: list[Picture]) -> None:
    """The value of ``run.plot()`` is seen in a notebook without pyplot's help."""
    picture = sequence(*stories.short().told, theme="dark", width=6)
    bundle = picture._repr_mimebundle_()
    assert set(bundle) == {"image/png", "text/html"}
    assert Images(bundle["text/html"]).images[0]["width"] == "576"
    assert drawn == [picture]
    assert picture.get_dpi() == 96


def test_ipython_takes_the_bundle() -> None:
    """IPython's formatter gives the forms as they are, and no other."""
    formatters = pytest.importorskip("IPython.core.formatters")
    picture = sequence(*stories.short().told)
    data, _ = formatters.DisplayFormatter().format(picture)
    assert {"image/png", "text/html"} <= set(data)
    assert base64.b64decode(data["image/png"]).startswith(b"\x89PNG")


def test_the_settings_of_a_user_do_not_crop_the_picture() -> None:
    """Neither a tight box nor TeX from a matplotlibrc gets in."""
    import matplotlib as mpl

    told = stories.short().told
    plain = Image.open(io.BytesIO(sequence(*told).png()))
    settings = {"savefig.bbox": "tight", "text.usetex": True, "figure.autolayout": True, "savefig.facecolor": "red"}
    with mpl.rc_context(settings):
        theirs = Image.open(io.BytesIO(sequence(*told).png()))
    assert theirs.size == plain.size
    # A palette may be off by one.
    assert min(theirs.convert("RGB").getpixel((2, 2))) >= 254
