"""The doctor tries what the lab needs."""

from __future__ import annotations

import asyncio
import html.parser
import re
import signal
import socket
from importlib import metadata
from typing import Any

import pytest

from labkit.doctor import Diagnosis, Examination, examine


async def find(name: str) -> Diagnosis:
    """The finding of this name, of an examination made now."""
    return next(finding for finding in (await examine()).findings if finding.name == name)


async def test_here_nothing_is_bad() -> None:
    """Where the tests run, the lab runs."""
    report = await examine()
    assert report.good, report
    assert {finding.name for finding in report.findings} >= {"Python", "packages", "loopback", "websocket", "kernel"}


async def test_the_echo_is_measured() -> None:
    """The round trip of the report took some time, and less than a second."""
    found = re.search(r"takes ([\d.]+) ms", (await find("websocket")).found)
    assert found
    assert 0 < float(found[1]) < 1000


async def test_a_machine_without_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where 127.0.0.1 cannot be bound, the report says so and says what to do."""

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket, "create_server", refuse)
    finding = await find("loopback")
    assert finding.ok == "bad"
    assert "Permission denied" in finding.found
    assert "firewall" in finding.mend


async def test_a_websocket_that_cannot_be_served(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of the library becomes a finding, not a traceback."""

    async def refuse(*_: Any, **__: Any) -> None:
        raise OSError(99, "Cannot assign requested address")

    monkeypatch.setattr(asyncio.get_running_loop(), "create_server", refuse)
    finding = await find("websocket")
    assert finding.ok == "bad"
    assert "Cannot assign requested address" in finding.found


@pytest.mark.parametrize(("version", "status"), [("14.0", "bad"), ("15.0", "ok")])
async def test_a_package_of_the_wrong_version(monkeypatch: pytest.MonkeyPatch, version: str, status: str) -> None:
    """The installed versions are held against what labkit asks for."""
    real = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: version if name == "websockets" else real(name))
    finding = await find("packages")
    assert (finding.ok, version in finding.found) == (status, True)


@pytest.mark.parametrize(("missing", "status"), [("aiohttp", "bad"), ("jupyterlab", "ok")])
async def test_a_package_that_is_missing(monkeypatch: pytest.MonkeyPatch, missing: str, status: str) -> None:
    """Without aiohttp the lab is broken; without JupyterLab it still serves scripts and pytest."""
    real = metadata.version

    def version(name: str) -> str:
        if name == missing:
            raise metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(metadata, "version", version)
    assert (await find("packages")).ok == status


async def test_a_system_without_sigstop(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the system does not have is unknown, not bad: the rest of the lab works."""
    monkeypatch.delattr(signal, "SIGSTOP")
    finding = await find("signals")
    assert (finding.ok, "SIGSTOP" in finding.found) == ("unknown", True)


async def test_a_time_scale_that_is_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong LABKIT_TIME_SCALE is found here, before an experiment trips over it."""
    monkeypatch.setenv("LABKIT_TIME_SCALE", "slow")
    report = await examine()
    assert not report.good
    assert "LABKIT_TIME_SCALE is 'slow'" in repr(report)


SICK = Examination(
    (Diagnosis("Python", "ok", "3.12"), Diagnosis("loopback", "bad", "<no> & never", "Ask the firewall."))
)


def test_the_text_says_what_to_mend() -> None:
    """In a terminal: the result first, a line for each finding, the remedy below what is bad."""
    assert repr(SICK).splitlines() == [
        "The lab will not work as it should; to mend: loopback.",
        "",
        "✓ ok       Python    3.12",
        "✗ bad      loopback  <no> & never",
        "                     → Ask the firewall.",
    ]


class Cells(html.parser.HTMLParser):
    """Collects the tags of a table with their attributes, and its texts."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep the tag."""
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        """Keep the text."""
        self.texts.append(data)


def test_the_table_can_be_read_without_colour_and_by_a_screen_reader() -> None:
    """In a notebook: a caption, headers with their scope, the status as a word, no colours, nothing unescaped."""
    bundle = SICK._repr_mimebundle_()
    cells = Cells()
    cells.feed(bundle["text/html"])
    headers = [attrs["scope"] for tag, attrs in cells.tags if tag == "th"]
    assert headers == ["col"] * 4 + ["row"] * 2
    assert "caption" in dict(cells.tags)
    assert {"✗ bad", "<no> & never", "Ask the firewall."} <= set(cells.texts)
    assert "color" not in bundle["text/html"]


def test_where_nothing_is_to_mend_there_is_no_column_for_it() -> None:
    """An empty one would only make the others narrower."""
    assert "To mend it" in SICK._repr_mimebundle_()["text/html"]
    well = Examination(SICK.findings[:1])
    assert "To mend it" not in well._repr_mimebundle_()["text/html"]


def test_a_frontend_may_ask_for_less() -> None:
    """``include`` and ``exclude`` are honoured."""
    assert set(SICK._repr_mimebundle_()) == {"text/plain", "text/html"}
    assert set(SICK._repr_mimebundle_(include={"text/plain"})) == {"text/plain"}
    assert set(SICK._repr_mimebundle_(exclude={"text/plain"})) == {"text/html"}
