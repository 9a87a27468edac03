"""The README keeps its word: its picture, its lines of code, its links and its commands are real."""

from __future__ import annotations

import inspect
import re
import runpy
import shlex
import textwrap
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import websockets

import labkit
from labkit.faults import FAMILIES
from tests import handlers

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")


@pytest.fixture
def script() -> Any:
    """The script that makes the picture."""
    return SimpleNamespace(**runpy.run_path(str(ROOT / ".github" / "readme.py")))


async def test_the_script_makes_the_picture(script: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The script that the repository names makes a picture of what the README says: a closing cut short."""
    await script.main(tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
    told = capsys.readouterr().out
    assert "cancelled by RequestHandler.connection_lost" in told.replace("\n", " ")
    assert "cleanup     truncated" in told


async def test_the_first_lines_do_what_is_said(script: Any) -> None:
    """The first block of code plays a handler, and the one for tests asks the verdict of another."""
    first = re.search(r"```python\n(.*?)```", README, re.DOTALL)
    assert first is not None
    stack, fault = re.findall(r'(?:on|fault)="([^"]+)"', first[1])
    run = await labkit.play(script.echo, on=stack, fault=fault)
    assert run.verdict.cleanup == "truncated"


async def test_its_parts_give_a_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    """The block with one's own client and one's own moment runs as it stands, and its assertion holds."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    block = re.search(r"```python\n(async with labkit\.host.*?)```", README, re.DOTALL)
    assert block is not None
    code = "async def example():\n" + textwrap.indent(block[1], "    ") + "    return run\n"
    names: dict[str, Any] = {"labkit": labkit, "websockets": websockets, "handler": handlers.aiohttp_echo}
    exec(code, names)
    run = await names["example"]()
    assert (run.fault, run.verdict.struck, run.verdict.ending) == ("truncated-frame", True, "returned")


def test_its_links_lead_somewhere() -> None:
    """Each relative link and picture is a file of the repository, and Binder opens a notebook that exists."""
    targets = re.findall(r"\]\((?!https?://)([^)#]+)\)", README)
    assert targets
    assert [target for target in targets if not (ROOT / target).exists()] == []
    opened = re.search(r"urlpath=lab/tree/([^)]+)\)", README)
    assert opened is not None
    assert (ROOT / opened[1]).is_file()


def test_its_plan_of_the_house_is_the_house() -> None:
    """Every room of the package stands in it, and nothing that is not there; what is private is left out."""
    plan = re.search(r"## How it is built\n+```\n(.*?)```", README, re.DOTALL)
    assert plan is not None
    rooms = {line.split()[0].rstrip("/") for line in plan[1].splitlines() if line.startswith("  ")}
    package = {path.name for path in (ROOT / "labkit").iterdir() if path.is_file() or (path / "__init__.py").exists()}
    assert rooms == package - {"__init__.py", "__main__.py", "py.typed", "errors.py"}
    assert all((ROOT / line.split()[0]).exists() for line in plan[1].splitlines() if not line.startswith(" "))


def test_its_names_exist() -> None:
    """Every public name and command that it mentions exists, and every stack is mentioned."""
    assert set(labkit.STACKS) <= set(re.findall(r"`([a-z][a-z0-9-]+)`", README))
    assert all(hasattr(labkit, name) for name in re.findall(r"labkit\.([A-Za-z_]+)", README))
    makefile = (ROOT / "Makefile").read_text("utf-8")
    commands = re.findall(r"^\$ make (\w+)", README, re.MULTILINE)
    assert {"lab", "test"} <= set(commands)
    assert all(re.search(rf"^{verb}:", makefile, re.MULTILINE) for verb in commands)


def test_its_families_of_faults_are_those_of_the_code() -> None:
    """Each is told in the words of its file, with faults that it has; all of them are for the command to list."""
    table = README.partition("| family |")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| (\w+) \| (.+) \| (.+) \|$", table, re.MULTILINE)
    assert [family for family, _, _ in rows] == list(FAMILIES)
    for family, told, such in rows:
        about = (import_module(f"labkit.faults.{family}").__doc__ or "").splitlines()[0]
        assert about == f"{family.capitalize()}: {told}."
        names = re.findall(r"`(.+?)`", such)
        assert names
        assert [labkit.FAULTS[name].family for name in names] == [family] * len(names)


def test_its_commands_are_understood() -> None:
    """The `labkit` lines name commands that the command line has."""
    from labkit.cli.commands import main

    lines = [shlex.split(line) for line in re.findall(r"^\$ labkit (.+)$", README, re.MULTILINE)]
    assert lines
    assert {line[0] for line in lines} <= set(main.commands)


def test_the_fault_in_contributing_is_the_real_one() -> None:
    """What a contributor copies is what the repository has."""
    shown = re.search(r"```python\n(@dataclass.*?)```", (ROOT / "CONTRIBUTING.md").read_text("utf-8"), re.DOTALL)
    assert shown is not None
    assert shown[1] == inspect.getsource(labkit.Reset)
