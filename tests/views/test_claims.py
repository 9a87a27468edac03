"""Claims beside what was measured, for a notebook and for a terminal."""

from __future__ import annotations

from typing import Any

import pytest

import labkit
from labkit.errors import BadValue

SOURCE = "https://example.org/a-post"


@pytest.mark.parametrize(
    ("cases", "answer", "measured"),
    [
        ({"by default": True, "with pings": True}, "right", "by default, with pings"),
        ({"by default": False}, "wrong", "by default"),
        ({"by default": False, "with pings": True}, "it depends", "right: with pings; wrong: by default"),
        ({"by default": True, "in a blackhole": None}, "right", "right: by default; unknown: in a blackhole"),
        ({"in a blackhole": None}, "unknown", "in a blackhole"),
    ],
)
def test_the_cases_decide(cases: dict[str, bool | None], answer: str, measured: str) -> None:
    """Right or wrong in all that are known; otherwise it depends, and on what."""
    [claim] = labkit.claims(("it is noticed", cases, SOURCE)).claims
    assert (claim.answer, claim.measured) == (answer, measured)


async def test_a_claim_hangs_on_a_run() -> None:
    """The same claim, tried on two stacks."""

    async def handler(websocket: Any) -> None:
        async for message in websocket:
            await websocket.send(message)

    runs = [await labkit.play(handler, on="websockets", fault=fault) for fault in ("close", "reset")]
    made = labkit.claims(("the loop ends in silence", {str(run.fault): run.verdict.exception is None for run in runs}))
    assert made.answers == ("it depends",)
    assert "right: close; wrong: reset" in str(made)


def test_both_forms_say_the_same() -> None:
    """The link has its address; code is marked as code; what a page would act on is escaped."""
    made = labkit.claims(("`recv()` <b>raises</b>", {"on a reset": True}, SOURCE), ("it ends", {"on a FIN": False}))
    bundle = made._repr_mimebundle_()
    for word in ("recv()", "right", "on a reset", SOURCE, "it ends", "wrong", "on a FIN"):
        assert word in bundle["text/plain"]
        assert word in bundle["text/html"]
    assert "<code>recv()</code>" in bundle["text/html"]
    assert "&lt;b&gt;" in bundle["text/html"]
    assert bundle["text/html"].count('scope="row"') == 2
    assert repr(made) == str(made)
    assert set(made._repr_mimebundle_(include=["text/html"])) == {"text/html"}


def test_without_a_source_there_is_no_column_for_it() -> None:
    """In print."""
    assert "source" not in str(labkit.claims(("it ends", {"on a FIN": True})))


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ("it ends", "claim 1 is 'it ends'; it takes"),
        (("it ends",), "claim 1 is ('it ends',); it takes"),
        (5, "claim 1 is 5; it takes"),
        (("", {"a": True}), "claim 1 begins with ''; it takes the claim as a text"),
        (("it ends", {}), "claim 1 has the cases {}; it takes a dictionary"),
        (("it ends", {"on a FIN": 3}), "claim 1, case 'on a FIN', is 3; it takes True, False, or None"),
        (("it ends", {"on a FIN": True}, "a post"), "claim 1 has the source 'a post'; it takes an https address"),
    ],
)
def test_a_claim_that_cannot_be_read_is_told_in_one_sentence(row: Any, sentence: str) -> None:
    """With what was given, and what would do."""
    with pytest.raises(BadValue) as raised:
        labkit.claims(row)
    assert sentence in str(raised.value)
