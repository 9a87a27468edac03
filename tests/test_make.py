"""``make`` on machines that are not ready: one line that says what to install."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="there is no make here")


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A bare machine: the Makefile, and a PATH with make and a shell, but no python."""
    (tmp_path / "bin").mkdir()
    for program in ("echo", "env", "make", "rm", "sh", "test", "touch"):
        (tmp_path / "bin" / program).symlink_to(str(shutil.which(program)))
    for name in ("Makefile", "requirements.txt", "requirements-dev.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def install(machine: Path, name: str, script: str) -> None:
    """Put a program on the machine's PATH."""
    program = machine / "bin" / name
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def make(machine: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # Not the variables by which a make that runs these tests speaks to its children.
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS", "PYTHON"))}
    environment["PATH"] = str(machine / "bin")
    return subprocess.run(
        ["make", *arguments], cwd=machine, env=environment, capture_output=True, text=True, check=False
    )


# A python that is too old answers the question about its version with 1.
TOO_OLD = "exit 1"
# A python without venv, as Debian installs it, answers any question but the one for ensurepip with 0.
WITHOUT_VENV = 'case "$*" in *ensurepip*) exit 1;; esac'
# A python that has all: it makes a .venv with a python that says what it is asked to run.
WHOLE = """
case "$*" in
*"-m venv"*) mkdir=/bin/mkdir; $mkdir -p .venv/bin
    printf '#!/bin/sh\\necho "$@" >> ran\\n' > .venv/bin/python; /bin/chmod +x .venv/bin/python;;
esac
"""


@pytest.mark.parametrize("verb", ["lab", "test", "quick", "soak", "lowest", "check", "notebooks", "bench"])
def test_no_python_at_all(machine: Path, verb: str) -> None:
    """Every verb that needs a python says so in one line, and nothing is made."""
    done = make(machine, verb)
    assert done.returncode == 2
    assert "no Python 3.11 or newer is here" in done.stderr
    assert (done.stderr.count("\n"), done.stdout) == (1, "")
    assert not (machine / ".venv").exists()


def test_a_python_that_is_too_old(machine: Path) -> None:
    """An old python is as good as none."""
    install(machine, "python3", TOO_OLD)
    done = make(machine, "lab")
    assert "no Python 3.11 or newer is here" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_python_that_was_named_and_is_too_old(machine: Path) -> None:
    """``PYTHON=...`` is taken at its word: no other python is looked for."""
    install(machine, "python3", WHOLE)
    install(machine, "python3.9", TOO_OLD)
    done = make(machine, "lab", "PYTHON=python3.9")
    assert "(python3.9 is not)" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_python_without_venv(machine: Path) -> None:
    """Debian's python3 without python3-venv: the line names the package to install."""
    install(machine, "python3", WITHOUT_VENV)
    done = make(machine, "lab")
    assert done.returncode == 2
    assert "apt install python3-venv" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_newer_python_beside_an_old_one(machine: Path) -> None:
    """Where python3 is too old, python3.12 is found; then lab installs the pins, checks itself and opens."""
    install(machine, "python3", TOO_OLD)
    install(machine, "python3.12", WHOLE)
    done = make(machine, "lab")
    assert done.returncode == 0, done.stderr
    install_, doctor, lab = (machine / "ran").read_text().splitlines()
    assert install_.endswith("install -r requirements.txt")
    assert (doctor, lab) == ("-m labkit doctor --brief", "-m labkit lab")


def test_the_second_time_nothing_is_installed(machine: Path) -> None:
    """Only when the requirements have changed, or the python has gone, is there something to do again."""
    install(machine, "python3", WHOLE)
    make(machine, "lab")
    ran = machine / "ran"

    def installs_again() -> bool:
        ran.unlink()
        assert make(machine, "lab").returncode == 0
        return "install" in ran.read_text()

    assert not installs_again()
    later = (machine / ".venv" / ".lab").stat().st_mtime + 1
    os.utime(machine / "requirements.txt", (later, later))
    assert installs_again()
    os.utime(machine / "requirements.txt", (1, 1))
    assert not installs_again()
    (machine / ".venv" / "bin" / "python").unlink()
    assert installs_again()


def test_test_installs_what_the_tests_need(machine: Path) -> None:
    """``make test`` on a fresh machine needs no ``make lab`` before it, nor one after it an installation."""
    install(machine, "python3", WHOLE)
    assert make(machine, "test").returncode == 0
    assert make(machine, "lab").returncode == 0
    assert (machine / "ran").read_text().splitlines() == [
        "-m pip --quiet --disable-pip-version-check install -r requirements-dev.txt",
        "-m pytest --numprocesses=auto --dist=loadgroup",
        "-m labkit doctor --brief",
        "-m labkit lab",
    ]


def test_help_is_the_default(machine: Path) -> None:
    """``make`` alone lists the verbs, on any machine."""
    out = make(machine).stdout
    assert all(
        f"make {verb}" in out
        for verb in ("lab", "test", "quick", "soak", "lowest", "check", "notebooks", "bench", "clean")
    )


def test_this_python_would_do() -> None:
    """The question that the Makefile asks is one that a whole python answers with yes."""
    subprocess.run([sys.executable, "-c", "import ensurepip, venv"], check=True)
