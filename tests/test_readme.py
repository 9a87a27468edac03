"""The README keeps its word: its picture, its lines of code, its links and its commands are real."""

from __future__ import annotations

import inspect
import re
import runpy
import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import labkit

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


def test_its_links_lead_somewhere() -> None:
    """Each relative link and picture is a file of the repository, and Binder opens a notebook that exists."""
    targets = re.findall(r"\]\((?!https?://)([^)#]+)\)", README)
    assert targets
    assert [target for target in targets if not (ROOT / target).exists()] == []
    opened = re.search(r"urlpath=lab/tree/([^)]+)\)", README)
    assert opened is not None
    assert (ROOT / opened[1]).is_file()


def test_its_names_exist() -> None:
    """Every fault, stack, public name and command that it mentions exists, and every fault is mentioned."""
    mentioned = set(re.findall(r"`([a-z][a-z0-9-]+)`", README))
    assert set(labkit.FAULTS) | set(labkit.STACKS) <= mentioned
    assert all(hasattr(labkit, name) for name in re.findall(r"labkit\.([A-Za-z_]+)", README))
    makefile = (ROOT / "Makefile").read_text("utf-8")
    commands = re.findall(r"^\$ make (\w+)", README, re.MULTILINE)
    assert {"lab", "test"} <= set(commands)
    assert all(re.search(rf"^{verb}:", makefile, re.MULTILINE) for verb in commands)


def test_its_commands_are_understood() -> None:
    """The `labkit` lines name commands that the command line has."""
    from labkit.cli import main

    lines = [shlex.split(line) for line in re.findall(r"^\$ labkit (.+)$", README, re.MULTILINE)]
    assert lines
    assert {line[0] for line in lines} <= set(main.commands)


def test_the_fault_in_contributing_is_the_real_one() -> None:
    """What a contributor copies is what the repository has."""
    shown = re.search(r"```python\n(@dataclass.*?)```", (ROOT / "CONTRIBUTING.md").read_text("utf-8"), re.DOTALL)
    assert shown is not None
    assert shown[1] == inspect.getsource(labkit.Reset)
