"""Mistakes in the use of the lab are told in one sentence."""

from __future__ import annotations

import pytest
from IPython.core.interactiveshell import InteractiveShell

from labkit import errors
from labkit.errors import LabError, UnknownName


def test_a_notebook_shows_one_line_and_no_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    """IPython asks the error itself how to show it."""
    shell = InteractiveShell()
    shell.run_cell("import labkit; labkit.Close(code=1006)")
    out = capsys.readouterr().out
    assert out.strip().startswith("BadValue: code 1006 is never on the wire")
    assert "Traceback" not in out
    assert len(out.strip().splitlines()) == 1


@pytest.mark.parametrize("name", sorted(set(errors.__all__) - {"LabError"}))
def test_every_error_is_a_lab_error(name: str) -> None:
    """So that one `except LabError` is enough."""
    assert issubclass(getattr(errors, name), LabError)


@pytest.mark.parametrize(
    ("given", "near"),
    [("websocket", "websockets"), ("Aiohttp", "aiohttp"), ("AIOHTTP_CANCEL", "aiohttp-cancel"), ("zzz", None)],
)
def test_the_nearest_name_is_suggested(given: str, near: str | None) -> None:
    """A slip of the finger is met with the name that was meant; anything else only with the list."""
    text = str(UnknownName("stack", given, ["websockets", "aiohttp", "aiohttp-cancel"]))
    assert f"there is no stack {given!r}." in text
    assert (f"Did you mean {near!r}?" in text) if near else ("Did you mean" not in text)
    assert text.endswith("The stacks are: aiohttp, aiohttp-cancel, websockets.")


def test_where_there_is_no_name_at_all() -> None:
    """The list would be empty."""
    assert str(UnknownName("handler", "echo", [])) == "there is no handler 'echo'. There is no handler at all."


@pytest.mark.parametrize("name", sorted(set(errors.__all__) - {"UnknownName"}))
def test_every_error_renders_as_its_name_and_its_sentence(name: str) -> None:
    """One line each; and each is also the builtin that a program would expect."""
    error = getattr(errors, name)("a sentence")
    assert error._render_traceback_() == [f"{name}: a sentence"]
    builtin = {"BadHandler": TypeError, "BadOption": TypeError, "BadValue": ValueError, "BadRecording": ValueError}
    builtin["NotInstalled"] = ImportError
    assert isinstance(error, builtin.get(name, Exception))
