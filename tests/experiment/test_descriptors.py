"""A process with too few file descriptors: one sentence, and nothing that would look like a finding."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from labkit.support.clock import scaled

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows does not limit sockets in this way")

ROOT = Path(__file__).parents[2]

#: The solution of the exercise `goodbye`, and a handler for websockets.
HANDLERS = """
import labkit
goodbye = labkit.EXERCISES["goodbye"].solution

async def echo(websocket):
    async for message in websocket:
        await websocket.send(message)
"""


def starved(limit: int, *command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run Python in a shell that lets it open so many files."""
    (cwd / "handlers.py").write_text(HANDLERS)
    return subprocess.run(
        ["sh", "-c", f'ulimit -n {limit}; exec "$@"', "sh", sys.executable, *command],
        env={"PYTHONPATH": str(ROOT), "LABKIT_HOME": str(cwd), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=scaled(60),
        check=False,
    )


@pytest.mark.parametrize("command", ["play handlers.py:echo --on websockets", "check goodbye handlers.py:goodbye"])
def test_one_experiment_has_no_room(command: str, tmp_path: Path) -> None:
    """Nothing is measured, so no rule is broken, and no handler is said to have failed."""
    program = starved(16, "-m", "labkit", *command.split(), cwd=tmp_path)
    assert (program.returncode, program.stdout) == (2, "")
    assert program.stderr.startswith("Error: this process may have 16 files open: ")
    assert program.stderr.count("\n") == 1


def test_the_cells_of_a_matrix_are_unknown(tmp_path: Path) -> None:
    """Each with the reason."""
    command = "-m labkit matrix handlers.py:echo --on websockets --fault reset --fault close --json"
    program = starved(16, *command.split(), cwd=tmp_path)
    assert (program.returncode, program.stderr) == (0, "")
    rows = json.loads(program.stdout)
    assert [row["outcome"] for row in rows] == ["unknown", "unknown"]
    for row in rows:
        assert row["reason"].startswith("this process may have 16 files open: ")


def test_with_room_for_one_at_a_time_all_is_as_always(tmp_path: Path) -> None:
    """What would take twenty at a time takes one after the other."""
    program = starved(32, "-m", "labkit", "check", "goodbye", "handlers.py:goodbye", cwd=tmp_path)
    assert program.returncode == 0, program.stdout + program.stderr
    assert "4 of 4 rules kept" in program.stdout
    assert program.stderr == ""


def test_a_run_that_starves_on_its_way_proves_nothing(tmp_path: Path) -> None:
    """The wire cannot accept the client, which the verdict would take for a server that does not answer."""
    program = starved(256, "-c", STARVES, cwd=tmp_path)
    assert program.stdout == (
        "LabError: this process may have N files open: that was not enough, so what was measured proves nothing; raise"
        " the limit, with `ulimit -n 1024` in the shell, or do fewer things at once\n"
    ), program.stderr
    assert program.stderr == ""


#: When the run has its two listening sockets, this leaves it the descriptor of the client, and none to accept it.
STARVES = """
import asyncio, os, re, resource, labkit
from handlers import echo
from labkit.clients.own import OwnClient

connect = OwnClient.connect

async def starve(client):
    held = len(os.listdir("/dev/fd")) - 1
    resource.setrlimit(resource.RLIMIT_NOFILE, (held + 1, 256))
    try:
        return await connect(client)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))

OwnClient.connect = starve
try:
    asyncio.run(labkit.play(echo, on="websockets", patience=0.5))
except labkit.LabError as error:
    print("LabError:", re.sub(r"[0-9]+ files", "N files", str(error)))
"""


#: Two servers start, with no descriptor left for their sockets.
HOSTS = """
import asyncio, os, resource, labkit
from handlers import echo

async def answer(request):
    pass

async def main(on, handler):
    async with labkit.host(handler, on=on):
        pass  # all is imported now
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    taken = []
    try:
        while True:
            taken.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        pass
    try:
        async with labkit.host(handler, on=on):
            print("it is there")
    except labkit.LabError as error:
        print("LabError:", error)
    for each in taken:
        os.close(each)

for on, handler in (("websockets", echo), ("aiohttp", answer)):
    asyncio.run(main(on, handler))
"""


#: The same where nothing has been read yet of the library but its code.
READS = """
import asyncio, os, resource, labkit, websockets.asyncio.server
from handlers import echo

labkit.STACKS
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))

async def main():
    taken = []
    try:
        while True:
            taken.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        pass
    try:
        async with labkit.host(echo, on="websockets"):
            print("it is there")
    except labkit.LabError as error:
        print("LabError:", error)
    for each in taken:
        os.close(each)

asyncio.run(main())
"""


def test_a_library_whose_version_cannot_be_read_for_want_of_a_descriptor_is_the_same_sentence(tmp_path: Path) -> None:
    """Python says of it that it is not installed."""
    (tmp_path / "reads.py").write_text(READS, encoding="utf-8")
    program = starved(256, "reads.py", cwd=tmp_path)
    assert program.stdout.startswith("LabError: this process may have 64 files open: none is left for the server;")
    assert (program.stdout.count("\n"), program.stderr) == (1, "")


def test_a_server_without_a_descriptor_is_one_sentence(tmp_path: Path) -> None:
    """Asyncio gives a server without a socket, and says nothing."""
    (tmp_path / "hosts.py").write_text(HOSTS, encoding="utf-8")
    program = starved(256, "hosts.py", cwd=tmp_path)
    sentence = (
        "LabError: this process may have 64 files open: none is left for the server; raise the limit, with `ulimit -n"
        " 1024` in the shell, or do fewer things at once\n"
    )
    assert (program.stdout, program.stderr) == (2 * sentence, "")
