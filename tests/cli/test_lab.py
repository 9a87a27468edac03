"""``labkit lab`` opens the notebooks in JupyterLab, on this machine only, and leaves nothing when it ends."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
from click.testing import CliRunner
from jupyter_client.blocking.client import BlockingKernelClient

import labkit
import labkit.cli.commands.lab
from labkit.cli import course, main
from labkit.support.clock import scaled

NOTEBOOK = '{"cells":[],"metadata":{},"nbformat":4,"nbformat_minor":5}'

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals for one process")


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A folder with the first notebook, and a user's folders that are empty."""
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "00-start-here.ipynb").write_text(NOTEBOOK)
    (tmp_path / "config").mkdir()
    return tmp_path


class Lab:
    """A ``labkit lab`` that runs, as its user sees it."""

    def __init__(self, process: subprocess.Popen[str], runtime: Path) -> None:
        self.process = process
        self.runtime = runtime
        assert process.stdout
        self.address = next(line for line in process.stdout if "JupyterLab is at" in line).split()[-1]
        self.url, _, rest = self.address.partition("lab/tree/")
        self.token = rest.partition("?token=")[2]

    def ask(self, path: str, method: str = "GET") -> Any:
        """Ask JupyterLab's own interface."""
        headers = {"Authorization": f"token {self.token}"}
        request = urllib.request.Request(f"{self.url}{path}", method=method, headers=headers)
        with urllib.request.urlopen(request, timeout=scaled(20)) as answer:
            return json.load(answer)

    def start_kernel(self) -> None:
        """Start a kernel, as an open notebook does, and wait until it is ready."""
        kernel = self.ask("api/kernels", "POST")["id"]
        client = BlockingKernelClient(connection_file=str(self.runtime / f"kernel-{kernel}.json"))
        client.load_connection_file()
        client.hb_channel.time_to_dead = scaled(20)  # a kernel that starts on a busy machine may be silent for 1 s
        client.start_channels()
        client.wait_for_ready(timeout=scaled(60))
        client.stop_channels()

    def listens(self) -> bool:
        """Whether somebody could connect."""
        place = urlsplit(self.url)
        try:
            socket.create_connection((str(place.hostname), place.port or 0), timeout=scaled(10)).close()
        except ConnectionError:
            return False
        return True

    def ended(self, family: list[psutil.Process]) -> None:
        """It ends in peace: no process is left, no file but Jupyter's secret, and nothing was complained of."""
        assert self.process.wait(scaled(30)) == 0
        assert psutil.wait_procs(family, scaled(5))[1] == []
        assert [file.name for file in self.runtime.iterdir()] == ["jupyter_cookie_secret"]
        assert self.process.stderr
        # Of what the apps log; a kernel that met another program on its port says that in words of its own.
        told = [line for line in self.process.stderr if re.search(r"App\]|Warning", line)]
        assert [line for line in told if not line.startswith("Warning: JupyterLab runs as root")] == []

    def family(self) -> list[psutil.Process]:
        """Its process, and those that it has started."""
        me = psutil.Process(self.process.pid)
        return [me, *me.children(recursive=True)]


@contextmanager
def begin(
    clone: Path, *arguments: str, ctrl_c: str = "default_int_handler", **environment: str
) -> Iterator[subprocess.Popen[str]]:
    """Start it as a shell does, with no more in its environment than a user has."""
    folders = {"JUPYTER_CONFIG_DIR": clone / "config", "JUPYTER_RUNTIME_DIR": clone / "runtime"}
    whole = {**os.environ, **{name: str(folder) for name, folder in folders.items()}, "CI": "1", **environment}
    if "JUPYTER_TOKEN" not in environment:
        whole.pop("JUPYTER_TOKEN", None)
    # Whoever runs the tests may ignore Ctrl+C, and a child inherits that.
    program = f"import signal, runpy; signal.signal(signal.SIGINT, signal.{ctrl_c}); "
    program += "runpy.run_module('labkit', run_name='__main__')"
    with subprocess.Popen(
        [sys.executable, "-c", program, "lab", *arguments],
        cwd=clone, env=whole, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.kill()  # where a test has failed; else it has ended


@contextmanager
def labkit_lab(clone: Path, *arguments: str, ctrl_c: str = "default_int_handler", **environment: str) -> Iterator[Lab]:
    """Run it, from when it has told its address."""
    with begin(clone, *arguments, ctrl_c=ctrl_c, **environment) as process:
        yield Lab(process, clone / "runtime")


def test_it_serves_on_loopback_with_a_token_until_ctrl_c(clone: Path) -> None:
    """The address that it prints answers; without the token there is no entry; Ctrl+C ends the kernels too."""
    with labkit_lab(clone, "--port", "0") as lab:
        assert re.fullmatch(
            r"http://127\.0\.0\.1:\d+/lab/tree/notebooks/00-start-here\.ipynb\?token=\w{32,}", lab.address
        )
        with urllib.request.urlopen(lab.address, timeout=scaled(10)) as page:
            assert "JupyterLab" in page.read().decode()
        with urllib.request.urlopen(lab.address.partition("?")[0], timeout=scaled(10)) as page:
            assert "/login" in page.url
        news = lab.ask("lab/api/settings/@jupyterlab/apputils-extension:notification")["schema"]["properties"]
        assert (news["fetchNews"]["default"], news["checkForUpdates"]["default"]) == ("false", False)
        lab.start_kernel()
        family = lab.family()
        assert len(family) > 1
        places, told = set(), list[str]()
        for process in family:
            with suppress(psutil.NoSuchProcess):  # the server asks a short program for what it is, now and then
                places |= {at.laddr.ip for at in process.net_connections("inet") if at.status == "LISTEN"}
                told += process.cmdline()
        assert places == {"127.0.0.1"}
        assert told
        assert not any(lab.token in argument for argument in told)
        lab.process.send_signal(signal.SIGINT)
        lab.ended(family)


def test_where_ctrl_c_is_ignored_sigterm_ends_it(clone: Path) -> None:
    """As in a script that starts it with ``&``; the token may be the user's, and the log stays quiet."""
    with labkit_lab(clone, "--port", "0", ctrl_c="SIG_IGN", JUPYTER_TOKEN="mine & yours") as lab:
        assert lab.token == "mine+%26+yours"
        lab.process.send_signal(signal.SIGINT)
        with urllib.request.urlopen(lab.address, timeout=scaled(10)) as page:
            assert "JupyterLab" in page.read().decode()
        lab.token = "mine & yours"
        lab.start_kernel()
        family = lab.family()
        assert len(family) > 1
        lab.process.terminate()
        while lab.listens():
            pass
        lab.process.terminate()  # the second signal of one who is impatient does not leave the kernel behind
        lab.ended(family)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_it_may_be_ended_before_it_serves(clone: Path, number: signal.Signals) -> None:
    """Here while JupyterLab reads the user's configuration; that is no error either. It has not waited for a parser."""
    config = f"import os, sys\nsys.modules['rfc3987_syntax'] and print('slow')\nos.kill(os.getpid(), {number.value})\n"
    (clone / "config" / "jupyter_server_config.py").write_text(config)
    with begin(clone, "--port", "0") as process:
        out, complaint = process.communicate(timeout=scaled(30))
    assert (process.returncode, out) == (0, ""), complaint
    assert "Traceback" not in complaint


def test_where_the_port_is_taken_it_is_another(clone: Path) -> None:
    """The next one that is free."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with labkit_lab(clone, "--port", str(port)) as lab:
            assert f":{port}/" not in lab.address
            assert lab.ask("api/status")["kernels"] == 0
            lab.process.terminate()
            assert lab.process.wait(scaled(30)) == 0


def test_beyond_the_last_port_there_is_none(clone: Path) -> None:
    """Where the last one is taken, it says so; the system would give any other for the one above."""
    with contextlib.ExitStack() as held:
        with contextlib.suppress(OSError):  # somebody else has it: as good
            held.enter_context(socket.create_server(("127.0.0.1", 65535)))
        process = held.enter_context(begin(clone, "--port", "65535"))
        out, complaint = process.communicate(timeout=scaled(30))
    assert (process.returncode, out) == (1, "")
    assert "port 65535 is not available" in complaint
    assert "Traceback" not in complaint


@pytest.mark.parametrize("port", ["-1", "65536", "99999"])
def test_what_is_no_port_starts_nothing(clone: Path, monkeypatch: pytest.MonkeyPatch, port: str) -> None:
    """One sentence, and exit code 2."""
    monkeypatch.chdir(clone)
    before = psutil.Process().children()
    result = CliRunner().invoke(main, ["lab", "--port", port], prog_name="labkit")
    assert (result.exit_code, result.stdout) == (2, "")
    sentence = f"Error: Invalid value for '--port': {port} is not in the range 0<=x<=65535."
    assert result.stderr == f"{sentence} (`labkit lab --help` says more)\n"
    assert psutil.Process().children() == before


def test_outside_a_clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without notebooks there is nothing to open, and the command says where to go."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(course, "_PACKAGE", tmp_path / "site-packages" / "labkit")
    result = CliRunner().invoke(main, ["lab"], prog_name="labkit")
    assert (result.exit_code, "run this in a clone" in result.stderr) == (2, True)
    result = CliRunner().invoke(main, ["lab", "mine"], prog_name="labkit")
    assert (result.exit_code, "this labkit came without the notebooks" in result.stderr) == (2, True)


def test_a_copy_of_ones_own_is_never_overwritten(tmp_path: Path) -> None:
    """The whole course comes; what a learner has changed stays, and is named; what is missing comes again."""
    mine = tmp_path / "mine"
    assert course.copy_course(mine) == []
    names = {file.name for file in (mine / "notebooks").iterdir()}
    assert names >= {"00-start-here.ipynb", "09-survive-everything.ipynb", "TEACHING.md", "recordings"}
    assert (mine / "examples" / "server.py").is_file()
    changed, missing = mine / course.FIRST, mine / "notebooks" / "TEACHING.md"
    changed.write_text("mine")
    missing.unlink()
    assert course.copy_course(mine) == [changed]
    assert (changed.read_text(), missing.is_file()) == ("mine", True)
    (blocked := tmp_path / "blocked").write_text("a file")
    with pytest.raises(labkit.LabError, match="the notebooks cannot be copied into"):
        course.copy_course(blocked)


@pytest.mark.soak
def test_an_installed_lab_has_the_course(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a user has it from a wheel: no clone is near, and the command tells where the notebooks go."""
    monkeypatch.delenv("PYTHONPATH", raising=False)
    root, tools = Path(__file__).parents[2], [sys.executable, "-m", "uv"]
    subprocess.run([*tools, "build", "--quiet", "--wheel", "--out-dir", tmp_path, root], check=True)
    [wheel] = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert [name for name in names if "__pycache__" in name or "node_modules" in name] == []
    subprocess.run([*tools, "venv", "--quiet", "--system-site-packages", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([*tools, "pip", "install", "--quiet", "--python", python, f"{wheel}[notebooks]"], check=True)
    code = "import labkit, pathlib; from labkit.cli import course"
    code += "; print(labkit.__file__, course.copy_course(pathlib.Path('mine')))"
    done = subprocess.run([python, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert str(tmp_path / "venv") in done.stdout
    assert (tmp_path / "mine" / course.FIRST).read_bytes() == (root / course.FIRST).read_bytes()
    done = subprocess.run([python, "-m", "labkit", "lab"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, "`labkit lab DIR` copies them" in done.stderr) == (2, True)


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
    assert labkit.cli.commands.lab.has_screen(environment) is screen


def test_the_command_line_does_not_wait_for_jupyterlab() -> None:
    """``labkit --help`` loads neither JupyterLab nor asyncio, which alone takes as long as all the rest."""
    code = (
        "import sys, labkit.cli; print(sorted({'asyncio', 'jupyterlab', 'jupyter_server', 'zmq'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
