"""The command line says what happened, or in one sentence what was wrong."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import labkit
from labkit.cli import main

ECHO = """
from helper import shout

async def echo(websocket):
    async for message in websocket:
        await websocket.send(shout(message))

def forgets_async(websocket):
    websocket.send("hello")

async def says_more(client):
    await client.send("hey")
    assert await client.recv() == "HEY"

async def pays(websocket):
    import labkit
    request = websocket.request
    labkit.note(f"{request.path} {request.headers['X-Token']} {websocket.subprotocol}")
    async for message in websocket:
        labkit.note("paid")
        await websocket.send(message)

class Rooms:
    @staticmethod
    async def lobby(websocket):
        await websocket.recv()
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A user's folder: a handler in a file, and a module beside it."""
    (tmp_path / "server_of_mine.py").write_text(ECHO)
    (tmp_path / "helper.py").write_text("def shout(text):\n    return text.upper()\n")
    (tmp_path / "broken_server.py").write_text("import asyncio\n\nimport no_such_module\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path
    for name in ("server_of_mine", "helper", "broken_server"):
        sys.modules.pop(name, None)


def labkit_says(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, prog_name="labkit")


def test_the_version() -> None:
    """``labkit --version`` names the package and its version."""
    assert re.fullmatch(r"labkit \d+\.\d+\.\d+, The Disconnect Lab\n", labkit_says("--version").output)


def test_faults_are_listed_with_what_they_do() -> None:
    """One line for each fault: its name, and the first line of its docstring."""
    lines = labkit_says("faults").output.splitlines()
    assert [line.split()[0] for line in lines] == list(labkit.FAULTS)
    assert any(re.fullmatch(r"reset +The TCP connection is reset\.", line) for line in lines)


def test_one_fault_is_told_whole() -> None:
    """With what travels on the wire, what causes it in life, and what to look for; a wrong name is one sentence."""
    told = labkit_says("faults", "blackhole").output
    assert told.startswith("blackhole, of the family silence\n\nThe network swallows everything.")
    assert all(part in told for part in ("On the wire:", "In life:", "Look for:", "Args:"))
    assert "Did you mean 'blackhole'?" in labkit_says("faults", "blackhol").stderr


def test_stacks_are_listed() -> None:
    """One line for each stack."""
    names = [line.split()[0] for line in labkit_says("stacks").output.splitlines()]
    assert {"aiohttp", "aiohttp-cancel", "websockets"} <= set(names)


@pytest.mark.parametrize("handler", ["server_of_mine.py:echo", "./server_of_mine.py:echo", "server_of_mine:echo"])
def test_a_handler_is_played(folder: Path, handler: str) -> None:
    """A handler of one's own, by file or by module: the text timeline and its verdict come out."""
    result = labkit_says("play", handler, "--on", "websockets", "--fault", "reset", "--message", "hey")
    assert result.exit_code == 0, result.output
    assert "HEY" in result.output
    assert "ConnectionClosedError" in result.output


def test_a_handler_inside_a_class(folder: Path) -> None:
    """The name may have dots."""
    result = labkit_says("play", "server_of_mine.py:Rooms.lobby", "--on", "websockets", "--fault", "close")
    assert result.exit_code == 0, result.output


def test_json_holds_the_verdict_and_the_events(folder: Path) -> None:
    """For programs: the fault with its knobs, the verdict's fields, every event."""
    fault = "close(code=4000, reason='bye')"
    out = labkit_says("play", "server_of_mine.py:echo", "--on", "websockets", "--fault", fault, "--json")
    story = json.loads(out.stdout)
    assert story["fault"] == fault
    assert story["verdict"]["close_code"] == 4000
    assert {"client", "wire", "handler"} <= {event["lane"] for event in story["events"]}


def test_the_picture_is_written(folder: Path) -> None:
    """``--png`` writes the sequence picture."""
    result = labkit_says("play", "server_of_mine.py:echo", "--on", "websockets", "--png", "picture.png")
    assert result.exit_code == 0, result.output
    assert (folder / "picture.png").read_bytes().startswith(b"\x89PNG")


CONVERSATION = ("--path", "/a?b=c", "--header", "X-Token: abc: d", "--subprotocol", "one")


def test_a_conversation_of_ones_own_and_what_the_client_asks_for(folder: Path) -> None:
    """``--talk``, ``--path``, ``--header`` and ``--subprotocol``, for one run and for a matrix."""
    result = labkit_says(
        "play", "server_of_mine.py:pays", "--on", "websockets", *CONVERSATION, "--talk", "server_of_mine.py:says_more"
    )
    assert result.exit_code == 0, result.output
    assert "/a?b=c abc: d one" in result.output
    assert "No fault struck, since says_more() raised AssertionError" in result.output
    arguments = ("server_of_mine.py:pays", "--on", "websockets", "--fault", "reset", "--json", *CONVERSATION)
    [row] = json.loads(labkit_says("matrix", *arguments, "--talk", "server_of_mine.py:says_more").output)
    assert row["outcome"] == "unstruck"


@pytest.mark.parametrize(
    ("when", "says"),
    [
        ("note: paid", "reset at the note 'paid': "),
        ("Await(2)", "reset at await 2: "),
        ("await 2", "reset at await 2: "),
        ("frame 1", "reset after frame 1: "),
        ("labkit.Frame(0)", "reset before the first frame: "),
        ("0.1", "reset after 0.1 s: "),
        ("through", "reset: "),
    ],
)
def test_the_moment_of_the_fault(folder: Path, when: str, says: str) -> None:
    """``--when`` takes each kind of moment, as text."""
    arguments = ("server_of_mine.py:pays", "--on", "websockets", "--fault", "reset", "--header", "X-Token: 1")
    out = labkit_says("play", *arguments, "--when", when, "--message", "1", "--message", "2", "--json")
    assert json.loads(out.stdout)["verdict"]["sentence"].startswith(says)
    [row] = json.loads(labkit_says("matrix", *arguments, "--when", when, "--json").output)
    assert row["sentence"].startswith(("No fault struck, since the handler had suspended", says))


def test_options_go_to_the_library(folder: Path) -> None:
    """``--option`` reaches the library's own function; its value is read as Python reads it."""
    out = labkit_says(
        "play", "server_of_mine.py:echo", "--on", "websockets", "--option", "max_size=3", "--message", "hello", "--json"
    )
    assert "1009 (message too big)" in json.loads(out.stdout)["verdict"]["exception"]


def test_several_clients(folder: Path) -> None:
    """The fault strikes the first; the verdict tells of the others too, and each event names its connection."""
    arguments = ["play", "server_of_mine.py:echo", "--on", "websockets", "--clients", "2"]
    assert "Connection 2 was still answered." in " ".join(labkit_says(*arguments).stdout.split())
    story = json.loads(labkit_says(*arguments, "--json").stdout)
    assert [other["answered"] for other in story["verdict"]["others"]] == ["yes"]
    assert {event["connection"] for event in story["events"] if event["lane"] == "handler"} == {1, 2, None}
    assert "clients=0; it takes a whole number from 1" in labkit_says(*arguments[:-1], "0").stderr


def test_a_matrix_is_played(folder: Path) -> None:
    """Many handlers and faults; as text, or as rows, and as a picture."""
    arguments = ["matrix", "server_of_mine.py:echo", "server_of_mine.py:Rooms.lobby", "--on", "websockets"]
    arguments += ["--fault", "reset", "--fault", "close(code=4000)"]
    result = labkit_says(*arguments)
    assert result.exit_code == 0, result.output
    assert "Rooms.lobby" in result.stdout
    result = labkit_says(*arguments, "--json", "--png", "chart.png", "--option", "patience=1")
    rows = json.loads(result.stdout)
    assert [row["fault"] for row in rows] == ["reset", "close(code=4000)"] * 2
    assert [row["outcome"] for row in rows[:2]] == ["raised", "raised"]
    assert (folder / "chart.png").read_bytes().startswith(b"\x89PNG")
    result = labkit_says("matrix", "server_of_mine.py:echo", "--on", "websocket")
    assert (result.exit_code, "Did you mean 'websockets'?" in result.output) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["server_of_mine.py:echo", "--fault", "rest"], "Did you mean 'reset'?"),
        (["server_of_mine.py:echo", "--fault", "close(kode=1)"], "there is no close knob 'kode'. Did you mean 'code'?"),
        (["server_of_mine.py:echo", "--fault", "close(code=1006)"], "code 1006 is never on the wire"),
        (["server_of_mine.py:echo", "--fault", "close(4000)"], "given by name: code, reason"),
        (["server_of_mine.py:echo", "--fault", "close(code="], "is not a fault with knobs"),
        (["server_of_mine.py:echo", "--fault", "close(code={[]: 1})"], "is not a fault with knobs"),
        (["server_of_mine.py:echo", "--fault", "close(code=[])"], "code=[] may not be sent"),
        (["server_of_mine.py:echo", "--fault", "truncated-frame(sent=1.5)"], "make no truncated frame"),
        (["server_of_mine.py:echo", "--message", "\udcff"], "message 1 holds '\\udcff', a lone surrogate"),
        (["server_of_mine.py:echo", "--patience", "nan"], "patience=nan; it takes a number of seconds above 0"),
        (["server_of_mine.py:echo", "--option", "x={[]: 1}"], "there is no AppRunner option 'x'"),
        (["server_of_mine.py:echo", "--on", "websocket"], "Did you mean 'websockets'?"),
        (["server_of_mine.py:ecco"], "Did you mean 'echo'?"),
        (["server_of_mine.py"], "does not name a handler"),
        (["missing.py:echo"], "there is no file missing.py"),
        (["no_such_module:echo"], "cannot import no_such_module: ModuleNotFoundError: No module named"),
        (["broken_server.py:echo"], "No module named 'no_such_module' (broken_server.py, line 3)"),
        (["server_of_mine.py:forgets_async"], "is not a coroutine function"),
        (["server_of_mine.py:echo", "--when", "later"], "when='later'; it takes 'through'"),
        (["server_of_mine.py:echo", "--when", "-1"], "when=-1.0; it takes a number of seconds"),
        (["server_of_mine.py:echo", "--when", "Await(0)"], "labkit.Await(0); it takes a whole number from 1"),
        (["server_of_mine.py:echo", "--when", "frame -1"], "when='frame -1'; it takes 'through'"),
        (["server_of_mine.py:echo", "--path", "chat"], "path='chat'; it takes a path such as '/chat?room=1'"),
        (["server_of_mine.py:echo", "--header", "X"], "'X' is not a header, such as 'Authorization: Bearer abc'"),
        (["server_of_mine.py:echo", "--subprotocol", "a b"], "the subprotocol 'a b' is not a name without spaces"),
        (["server_of_mine.py:echo", "--talk", "server_of_mine.py"], "'server_of_mine.py' does not name a talk"),
        (
            ["server_of_mine.py:echo", "--talk", "server_of_mine.py:says_mor"],
            "there is no talk 'says_mor'. Did you mean 'says_",
        ),
        (["server_of_mine.py:echo", "--option", "max_size"], "'max_size' is not NAME=VALUE"),
        (["server_of_mine.py:echo", "--option", "on=x"], "'on' is not an option of the server's library"),
        (["server_of_mine.py:echo", "--client", "websocket"], "no client 'websocket'. Did you mean 'websockets'?"),
        (["server_of_mine.py:echo", "--on", "websockets", "--png", "no/folder/p.png"], "cannot write no/folder/p.png"),
    ],
)
def test_a_mistake_is_told_in_one_sentence(folder: Path, arguments: list[str], sentence: str) -> None:
    """On stderr, with exit code 2 and without a traceback."""
    result = labkit_says("play", *arguments)
    assert result.exit_code == 2
    assert sentence in result.stderr
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""


def test_patience_is_a_positive_number(folder: Path) -> None:
    """What click can check, it checks."""
    result = labkit_says("play", "server_of_mine.py:echo", "--patience", "0")
    assert result.exit_code == 2
    assert "--patience" in result.stderr


def test_doctor_prints_its_report() -> None:
    """``labkit doctor`` ends with 0 where the lab works, and with ``--brief`` says so in one line."""
    result = labkit_says("doctor")
    assert (result.exit_code, "✓ ok" in result.stdout) == (0, True)
    assert labkit_says("doctor", "--brief").stdout.count("\n") == 1


def test_doctor_fails_where_something_is_bad(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bad finding is exit code 1, and is shown with ``--brief`` too."""
    monkeypatch.setenv("LABKIT_TIME_SCALE", "slow")
    result = labkit_says("doctor", "--brief")
    assert result.exit_code == 1
    assert "Unset LABKIT_TIME_SCALE" in result.stdout


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize(
    "arguments", [["faults"], ["--help"], ["play", "server_of_mine.py:echo", "--on", "websockets"]]
)
def test_a_full_disk_is_told_in_one_sentence(folder: Path, arguments: list[str]) -> None:
    """Where the output cannot be written, there is no traceback, not even when Python ends."""
    command = [sys.executable, "-m", "labkit", *arguments]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "Error: the output cannot be written: No space left on device\n"


def test_what_the_system_refuses_is_told_in_one_sentence(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of the system's, which is not the lab's."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(labkit, "play", refuse)
    result = labkit_says("play", "server_of_mine.py:echo")
    assert (result.exit_code, result.output) == (2, "Error: [Errno 24] Too many open files\n")


def test_a_reader_who_leaves_is_no_error() -> None:
    """``labkit faults | head -1`` says no more than that line."""
    command = f"{sys.executable} -m labkit faults | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    assert (done.stdout.count("\n"), done.stderr) == (1, "")


def test_check_passes_or_fails_by_its_exit_code(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Zero for a handler that keeps every rule, one for another; both say why."""
    monkeypatch.setenv("LABKIT_HOME", str(folder / "home"))
    source = f"import labkit\nfrom aiohttp import web\n\n\n{labkit.EXERCISES['goodbye'].solution_source}\n"
    (folder / "broken_server.py").write_text(source)
    result = labkit_says("check", "goodbye", "broken_server.py:my_handler")
    assert result.exit_code == 0, result.output
    assert "4 of 4 rules kept" in result.output
    assert "`labkit solution goodbye`; `labkit progress` shows what is left" in " ".join(result.output.split())
    (folder / "broken_server.py").write_text(source.replace("(0, 1000, 1001)", "(1000,)"))
    sys.modules.pop("broken_server")
    result = labkit_says("check", "goodbye", "broken_server.py:my_handler")
    assert result.exit_code == 1
    assert "✗ broken   bye" in result.output
    assert "Stuck? `labkit hint goodbye`" in " ".join(result.output.split())
    assert f"1 of {len(labkit.EXERCISES)} exercises done" in labkit_says("exercises").output


def test_an_exercise_is_shown_with_its_goal() -> None:
    """What to write, the rules by which it is checked, and the handler to start from; a wrong name gets a sentence."""
    exercise = labkit.EXERCISES["busy"]
    shown = labkit_says("exercises", "busy").output
    assert exercise.goal in " ".join(shown.split())
    assert all(f"- {rule.name}: " in shown for rule in exercise.rules)
    assert exercise.starter_source in shown
    assert exercise._repr_mimebundle_()["text/plain"].strip() == shown.strip()
    assert "Did you mean 'busy'?" in labkit_says("exercises", "bussy").output


def test_check_of_a_handler_that_interrupts(folder: Path) -> None:
    """A sentence, where a cancel would be a traceback."""
    (folder / "broken_server.py").write_text("async def handler(request):\n    raise KeyboardInterrupt\n")
    result = labkit_says("check", "goodbye", "broken_server.py:handler")
    assert result.exit_code == 2
    assert result.output == "Error: interrupted: KeyboardInterrupt in the handler\n"


def test_each_moment_is_played(folder: Path) -> None:
    """What each leads to; the same as JSON; and the picture."""
    result = labkit_says("moments", "server_of_mine.py:pays", "--on", "websockets", "--header", "X-Token: a")
    assert result.exit_code == 0, result.output
    assert "reset at each moment of pays on websockets: " in result.output
    arguments = ("--on", "websockets", "--header", "X-Token: a", "--json", "--png", "strip.png")
    rows = json.loads(labkit_says("moments", "server_of_mine.py:pays", *arguments).output)
    assert rows[-1]["moment"] == "through"
    assert "paid" in rows[-1]["done"]
    assert (folder / "strip.png").read_bytes().startswith(b"\x89PNG")


def test_several_faults_are_shown_side_by_side(folder: Path) -> None:
    """Each row of the JSON tells which fault it is of."""
    arguments = ("moments", "server_of_mine.py:pays", "--on", "websockets", "--header", "X-Token: a")
    several = labkit_says(*arguments, "--fault", "reset", "--fault", "close", "--json")
    rows = json.loads(several.stdout)
    assert {(row["fault"], row["stack"]) for row in rows} == {("reset", "websockets"), ("close", "websockets")}
