"""The command line says what happened, or in one sentence what was wrong."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import labkit.cli
from labkit.cli import main
from labkit.clock import scaled

ECHO = """
from helper import shout

async def echo(websocket):
    async for message in websocket:
        await websocket.send(shout(message))

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
    assert any(re.fullmatch(r"reset +The connection is torn down at once\.", line) for line in lines)


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


def test_options_go_to_the_library(folder: Path) -> None:
    """``--option`` reaches the library's own function; its value is read as Python reads it."""
    out = labkit_says(
        "play", "server_of_mine.py:echo", "--on", "websockets", "--option", "max_size=3", "--message", "hello", "--json"
    )
    assert "1009 (message too big)" in json.loads(out.stdout)["verdict"]["exception"]


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
        (["server_of_mine.py:shout"], "is not a coroutine function"),
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


@pytest.mark.parametrize(
    ("environment", "screen"),
    [
        ({}, False),
        ({"DISPLAY": ":0"}, True),
        ({"WAYLAND_DISPLAY": "wayland-0"}, True),
        ({"DISPLAY": ":0", "CI": "1"}, False),
        ({"DISPLAY": ":10", "SSH_CONNECTION": "a b"}, False),
    ],
)
def test_where_there_is_a_screen(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], *, screen: bool) -> None:
    """A browser is opened where somebody could see it."""
    monkeypatch.setattr(sys, "platform", "linux")
    assert labkit.cli._has_screen(environment) is screen


def test_lab_outside_a_clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without notebooks there is nothing to open, and the command says where to go."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(labkit.cli, "__file__", str(tmp_path / "site-packages" / "labkit" / "cli.py"))
    result = labkit_says("lab")
    assert (result.exit_code, "run this in a clone" in result.stderr) == (2, True)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process")
def test_lab_serves_on_loopback_with_a_token_until_ctrl_c(tmp_path: Path) -> None:
    """``labkit lab`` prints the address; without the token there is no entry; Ctrl+C ends server and command."""
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "00-start-here.ipynb").write_text(
        '{"cells":[],"metadata":{},"nbformat":4,"nbformat_minor":5}'
    )
    environment = {**os.environ, "JUPYTER_CONFIG_DIR": str(tmp_path / "config"), "CI": "1"}
    environment.pop("JUPYTER_TOKEN", None)
    command = [sys.executable, "-m", "labkit", "lab", "--port", "0"]
    # A session of its own, so that Ctrl+C can be sent to the group as a terminal does.
    lab = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        assert lab.stdout
        address = next(line for line in lab.stdout if "JupyterLab is at" in line).split()[-1]
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/lab/tree/notebooks/00-start-here\.ipynb\?token=\w{32,}", address)
        with urllib.request.urlopen(address, timeout=scaled(10)) as page:
            assert "JupyterLab" in page.read().decode()
        with urllib.request.urlopen(address.partition("?")[0], timeout=scaled(10)) as page:
            assert "/login" in page.url
        os.killpg(lab.pid, signal.SIGINT)
        assert lab.wait(scaled(15)) == 0
    finally:
        if lab.poll() is None:
            os.killpg(lab.pid, signal.SIGKILL)
            lab.wait()
        if lab.stdout:
            lab.stdout.close()


STALE = """
import json, os, socket, sys, time
from pathlib import Path
note = Path(sys.argv[1], f"jpserver-{os.getpid()}.json")
note.write_text(json.dumps({"url": "http://stale/", "token": ""}))
os.utime(note, (1, 1))
print("stale", flush=True)
sys.stdin.readline()
unused = socket.socket()
unused.bind(("127.0.0.1", 0))
url = "http://127.0.0.1:%d/" % unused.getsockname()[1]
note.write_text(json.dumps({"url": url, "token": "t"}))
print(url, flush=True)
time.sleep(0.2)
unused.listen()
sys.stdin.readline()
"""


def test_the_note_of_a_server_that_was_killed_is_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Process numbers come round again; the address is the one that this server tells, once it listens there."""
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path))
    server = subprocess.Popen(
        [sys.executable, "-c", STALE, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert server.stdin
    assert server.stdout
    with server:
        assert server.stdout.readline().strip() == b"stale"
        threading.Timer(0.2, lambda: (server.stdin.write(b"go\n"), server.stdin.flush())).start()
        address = labkit.cli._address(server, time.time())
        url = server.stdout.readline().strip().decode()
        assert address == f"{url}lab/tree/notebooks/00-start-here.ipynb?token=t"
        server.stdin.write(b"end\n")


def test_check_passes_or_fails_by_its_exit_code(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Zero for a handler that keeps every rule, one for another; both say why."""
    monkeypatch.setenv("LABKIT_HOME", str(folder / "home"))
    source = f"import labkit\nfrom aiohttp import web\n\n\n{labkit.EXERCISES['goodbye'].solution_source}\n"
    (folder / "broken_server.py").write_text(source)
    result = labkit_says("check", "goodbye", "broken_server.py:my_handler")
    assert result.exit_code == 0, result.output
    assert "3 of 3 rules kept" in result.output
    (folder / "broken_server.py").write_text(source.replace("(1000, 1001)", "(1000,)"))
    sys.modules.pop("broken_server")
    result = labkit_says("check", "goodbye", "broken_server.py:my_handler")
    assert result.exit_code == 1
    assert "✗ broken   bye" in result.output
    assert f"1 of {len(labkit.EXERCISES)} exercises done" in labkit_says("exercises").output


def test_check_of_a_handler_that_interrupts(folder: Path) -> None:
    """A sentence, where a cancel would be a traceback."""
    (folder / "broken_server.py").write_text("async def handler(request):\n    raise KeyboardInterrupt\n")
    result = labkit_says("check", "goodbye", "broken_server.py:handler")
    assert result.exit_code == 2
    assert result.output == "Error: interrupted: KeyboardInterrupt in the handler\n"
