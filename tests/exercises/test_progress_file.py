"""What is done is kept in a small file of the user's, and is not lost."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import platformdirs
import pytest
from platformdirs import macos, unix, windows

import labkit
import labkit.exercises.progress_file
from labkit.errors import BadValue
from labkit.exercises.progress_file import alone, mark_done, path_of_progress

NAME = "unclean-exit"
ONLY_THERE = pytest.mark.skipif(sys.platform != "win32", reason="only Windows knows its folders")
OLD = '{"done": {"recv": "2026-01-02"}}'


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def read_only(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with some progress, in which nobody may write: not even root, who is somebody else meanwhile."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        monkeypatch.setenv("LABKIT_HOME", name)
        (folder / "progress.json").write_text(OLD)
        (folder / "progress.json").chmod(0o444)
        folder.chmod(0o555)
        as_root = os.geteuid() == 0
        if as_root:
            os.seteuid(65534)
        try:
            yield folder
        finally:
            if as_root:
                os.seteuid(0)
            folder.chmod(0o755)


def test_the_progress_is_kept(home: Path) -> None:
    """In a small file, which is made when there is something to note; the day is that of the first success."""
    assert labkit.progress().done == {}
    assert not home.exists()
    assert mark_done(NAME) == mark_done("recv") == ""
    assert set(labkit.progress().done) == {NAME, "recv"}
    assert NAME not in labkit.progress().left
    assert f"2 of {len(labkit.EXERCISES)} exercises done" in str(labkit.progress())
    assert "✓" in labkit.progress()._repr_mimebundle_()["text/html"]
    (home / "progress.json").write_text(OLD)
    mark_done("recv")
    assert labkit.progress().done == {"recv": "2026-01-02"}


def test_a_reset_begins_anew(home: Path) -> None:
    """With the first hint too; each old file is kept beside the new one."""
    assert (labkit.progress(reset=True).notice, home.exists()) == ("", False)
    for number, name in enumerate((NAME, "recv"), 1):
        mark_done(name)
        assert str(labkit.hint(name)).startswith("Hint 1 of 3")
        aside = home / f"progress-{number}.old.json"
        assert labkit.progress(reset=True).notice == f"The file of your progress was put aside: it is {aside} now."
        assert labkit.progress().done == {}
        assert list(json.loads(aside.read_text())["done"]) == [name]
        assert str(labkit.hint(name)).startswith("Hint 1 of 3")


def test_processes_at_once_lose_nothing(home: Path) -> None:
    """Who writes waits until the other has, and adds to what is there then."""
    home.mkdir()
    writer = threading.Thread(target=mark_done, args=[NAME])
    with alone(home / "progress.lock"):
        writer.start()
        writer.join(0.3)
        assert writer.is_alive()
        (home / "progress.json").write_text(OLD)
    writer.join()
    assert set(labkit.progress().done) == {NAME, "recv"}


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b'{"done": 5}', b'{"done": {"recv": 5}}', b"\xff\xfe", b"[" * 100_000]
)
def test_a_damaged_file_is_kept_aside(home: Path, content: bytes) -> None:
    """One sentence, nothing lost, and a new file."""
    home.mkdir()
    (home / "progress.json").write_bytes(content)
    progress = labkit.progress()
    assert progress.done == {}
    assert "is damaged, and was put aside" in progress.notice
    assert progress.notice in str(progress)
    assert (home / "progress-1.old.json").read_bytes() == content
    assert labkit.progress().notice == ""
    assert mark_done(NAME) == ""
    assert set(labkit.progress().done) == {NAME}
    (home / "progress.json").write_bytes(content)
    assert "is damaged, and was put aside" in mark_done("recv")
    assert set(labkit.progress().done) == {"recv"}


def test_a_file_that_cannot_be_written_is_a_sentence(home: Path) -> None:
    """And the check's answer still comes."""
    home.write_text("a file where the folder should be")
    assert "cannot be noted" in mark_done(NAME)
    assert "cannot be read" in labkit.progress().notice
    assert "cannot be read" in labkit.progress(reset=True).notice


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such folders")
def test_in_a_read_only_folder_nothing_changes(read_only: Path) -> None:
    """One true sentence, and what was done is still told."""
    path = read_only / "progress.json"
    assert mark_done(NAME) == f"Your progress cannot be noted in {path}: Permission denied."
    progress = labkit.progress(reset=True)
    assert progress.notice == f"Your progress stays as it is: {path} cannot be moved: Permission denied."
    assert set(progress.done) == set(labkit.progress().done) == {"recv"}
    assert labkit.progress().notice == ""
    assert [file.name for file in read_only.iterdir()] == ["progress.json"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such folders")
def test_in_a_read_only_folder_a_damaged_file_stays(read_only: Path) -> None:
    """It is told, and nothing is written over it."""
    path = read_only / "progress.json"
    if os.geteuid() == 65534:
        os.seteuid(0)
        path.write_text("{")
        os.seteuid(65534)
    else:
        path.chmod(0o644)
        path.write_text("{")
    why = "it is damaged, and cannot be put aside: Permission denied"
    assert labkit.progress().notice == f"Your progress in {path} cannot be read: {why}."
    assert mark_done(NAME) == f"Your progress cannot be noted in {path}: {why}."
    assert path.read_text() == "{"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
def test_a_full_disk_leaves_nothing_behind(home: Path) -> None:
    """What was done before is still there, and no half of a new file."""
    home.mkdir()
    (home / "progress.json").write_text(OLD)
    program = (
        "import resource; from labkit.exercises.progress_file import mark_done;"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, (8, 8)); print(mark_done({NAME!r}))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == f"Your progress cannot be noted in {home / 'progress.json'}: File too large.\n"
    assert (home / "progress.json").read_text() == OLD
    assert {file.name for file in home.iterdir()} <= {"progress.json", "progress.lock"}


@pytest.mark.skipif(sys.platform == "win32", reason="Windows locks otherwise")
@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_keeps_it_too(home: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """As some network drives are: it is written without."""

    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", refuse)
    assert mark_done(NAME) == mark_done("recv") == ""
    assert set(labkit.progress().done) == {NAME, "recv"}


def test_who_never_lets_go_is_told_of(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for ever for a process that was stopped while it wrote, nor writes over what it does."""
    monkeypatch.setattr(labkit.exercises.progress_file, "_PATIENCE", 0.1)
    home.mkdir()
    path, lock = home / "progress.json", home / "progress.lock"
    with alone(lock):
        path.write_text(OLD)
        assert mark_done(NAME) == f"Your progress cannot be noted in {path}: another process holds {lock}."
        progress = labkit.progress(reset=True)
        assert progress.notice == f"Your progress stays as it is: {path} cannot be moved: another process holds {lock}."
        assert (list(progress.done), path.read_text()) == (["recv"], OLD)
        path.write_text("{")
        assert labkit.progress().notice == f"Your progress in {path} cannot be read: another process holds {lock}."
        assert path.read_text() == "{"


@pytest.mark.parametrize(
    ("system", "folder"),
    [
        (unix.Unix, ".local/share/labkit"),
        (macos.MacOS, "Library/Application Support/labkit"),
        pytest.param(windows.Windows, "AppData/Local/labkit", marks=ONLY_THERE),
    ],
)
def test_without_labkit_home_it_is_the_users_own_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, system: type, folder: str
) -> None:
    """As the systems have it."""
    for name in ("LABKIT_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "AppData" / "Local"))
    monkeypatch.setattr(platformdirs, "PlatformDirs", system)
    assert path_of_progress() == tmp_path / folder / "progress.json"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows guesses where the home of a name is")
def test_a_home_that_is_none_gets_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the progress; and a check that passes still says so."""
    monkeypatch.setenv("LABKIT_HOME", "~nosuchuser/lab")
    sentence = (
        "LABKIT_HOME is '~nosuchuser/lab', and there is no such user; give a folder in LABKIT_HOME, such as /srv/labkit"
    )
    for reset in (False, True):
        with pytest.raises(BadValue) as raised:
            labkit.progress(reset=reset)
        assert str(raised.value) == sentence
    assert mark_done(NAME) == f"Your progress cannot be noted: {sentence}."


@pytest.mark.skipif(sys.platform == "win32", reason="Windows knows its users' folders otherwise")
def test_who_has_no_home_gets_one_sentence(tmp_path: Path) -> None:
    """As in a container that runs under a number nobody has; no folder named ``~`` is made."""
    program = (
        "import os, labkit, labkit.exercises.progress_file as file; os.getuid = lambda: 4_000_000_000;"
        "del os.environ['HOME'], os.environ['LABKIT_HOME']; print(file.mark_done('recv'))"
    )
    environment = {name: value for name, value in os.environ.items() if name != "XDG_DATA_HOME"} | {"HOME": "/"}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("Your progress cannot be noted: you have no home folder here; give a folder in")
    assert list(tmp_path.iterdir()) == []
