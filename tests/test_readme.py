"""The README keeps its word: its picture, its lines of code, its links and its commands are real."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import labkit
from labkit.faults import FAMILIES

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


#: The blocks of code, by their first line that is no import.
BLOCKS = {
    next(line for line in block.splitlines() if line and not line.startswith(("import ", "from "))): block
    for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL)
}

#: Those that need another machine, and those that a test below runs as what they are.
ELSEWHERE = [line for line in BLOCKS if line.startswith(("with concurrent", "@pytest", "server = labkit.process"))]


@pytest.fixture
def at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a clone's root, from which Python imports, and with the example as ``server``."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.syspath_prepend(ROOT)
    monkeypatch.setitem(sys.modules, "server", import_module("examples.shop"))


async def run_block(block: str, names: dict[str, Any]) -> list[Any]:
    """Run a block as a notebook would, or as a script; return what its lines that are expressions give."""
    if "labkit.run(" in block:
        # Where a loop runs, it would apply nest-asyncio, and other tests would have that too.
        await asyncio.to_thread(exec, block, names)
        return []
    given = []
    for statement in ast.parse(block).body:
        shown = isinstance(statement, ast.Expr)
        tree = ast.Expression(statement.value) if isinstance(statement, ast.Expr) else ast.Module([statement], [])
        code = compile(tree, "README.md", "eval" if shown else "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        value = eval(code, names)
        if inspect.iscoroutine(value):
            value = await value
        given.append(value)
    return [value for value in given if value is not None]


@pytest.mark.usefixtures("at_home")
async def test_its_blocks_run_as_they_stand(recwarn: pytest.WarningsRecorder) -> None:
    """From top to bottom, each with what the ones above it have made, and it says what the comments say."""
    names: dict[str, Any] = {"labkit": labkit}
    given = {line: await run_block(block, names) for line, block in BLOCKS.items() if line not in ELSEWHERE}
    assert len(given) + len(ELSEWHERE) == len(BLOCKS)
    by_name = {line.partition(" = ")[0]: found for line, found in given.items()}

    [picture] = given['run = await labkit.play(echo, on="aiohttp-cancel", fault="close")']
    assert picture.verdict.cleanup == "truncated"
    table, cell, rows = by_name["handlers"]
    assert (len(rows), cell.fault, cell.outcome) == (len(table.cells), "reset", "raised")
    strip, third, between = given[
        "def paid_is_written(run):                         # your own invariant, or a coroutine that asks your database"
    ]
    assert [strike.number for strike in strip.strikes if strike.holds is False] == [3]
    assert third.verdict.ending == "cancelled"
    assert between.verdict.sentence.startswith("reset after frame 1: ")
    [noticed_after] = next(found for line, found in given.items() if "autojump" in line)
    assert noticed_after == pytest.approx(50, abs=1)
    assert names["run"].verdict.struck


def test_its_tests_pass(tmp_path: Path) -> None:
    """The block for pytest is a file of tests: each fault, each await, and the end of the conversation."""
    [block] = [BLOCKS[line] for line in ELSEWHERE if line.startswith("@pytest")]
    (tmp_path / "test_server.py").write_text(block, "utf-8")
    (tmp_path / "server.py").write_text((ROOT / "examples" / "shop.py").read_text("utf-8"), "utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_server.py"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout
    moments = int(re.findall(r"moments\((\d)\)", block)[0]) + 1
    faults = [fault for fault in labkit.FAULTS.values() if fault.family == "transport" or fault.name == "close"]
    assert f"{moments + len(faults)} passed" in ran.stdout


def test_its_first_commands_do_what_they_say(tmp_path: Path) -> None:
    """Those for one's own ``server.py``, with the example that it is copied from."""
    shutil.copy(ROOT / "examples" / "shop.py", tmp_path / "server.py")
    lines = [shlex.split(line) for line in re.findall(r"^\$ labkit (.+ server\.py:.+)$", README, re.MULTILINE)]
    lines += [shlex.split(line) for line in re.findall(r"`labkit (play server\.py:[^`]+)`", README)]
    assert len(lines) >= 4
    for line in lines:
        few = ["--fault", "reset"] if line[0] == "matrix" else []
        command = [sys.executable, "-m", "labkit", *line, *few]
        ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, (line, ran.stdout, ran.stderr)


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
    from labkit.cli import main

    lines = [shlex.split(line) for line in re.findall(r"^\$ labkit (.+)$", README, re.MULTILINE)]
    assert lines
    assert {line[0] for line in lines} <= set(
        main.list_commands(main.make_context("labkit", ["--version"], resilient_parsing=True))
    )


def test_the_fault_in_contributing_is_the_real_one() -> None:
    """What a contributor copies is what the repository has."""
    shown = re.search(r"```python\n(@dataclass.*?)```", (ROOT / "CONTRIBUTING.md").read_text("utf-8"), re.DOTALL)
    assert shown is not None
    assert shown[1] == inspect.getsource(labkit.Reset)
