"""Binder builds what the lab needs: told by repo2docker, and tried in a clean environment."""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
REPO2DOCKER = shutil.which("jupyter-repo2docker", path=str(Path(sys.executable).parent))


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A fresh copy of the repository, without what is made in it."""
    made = shutil.ignore_patterns(".git", ".venv*", "build", "dist", ".*_cache", "__pycache__", ".ipynb_checkpoints")
    return shutil.copytree(ROOT, tmp_path / "copy", ignore=made)


@pytest.mark.skipif(REPO2DOCKER is None, reason="jupyter-repo2docker is not installed here")
def test_repo2docker_takes_our_python_and_our_requirements(copy: Path) -> None:
    """``jupyter-repo2docker --no-build --debug .`` prints what Binder would do; it needs no Docker engine for that."""
    command = [str(REPO2DOCKER), "--no-build", "--debug", "."]
    told = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False)
    text = told.stdout + told.stderr
    assert told.returncode == 0, text
    assert "environment for python=3.12" in text
    dockerfile = text[text.index("FROM ") :].splitlines()
    assert any("environment-2epy-2d3-2e12" in line for line in dockerfile)
    install = next(
        i for i, line in enumerate(dockerfile) if 'install --no-cache-dir -r "binder/requirements.txt"' in line
    )
    # `-r ../requirements.txt` and `-e .` need the whole repository to be there by then.
    assert any(line.startswith("COPY") and " src/ " in line for line in dockerfile[:install])
    assert not any("pip install" in line and "binder/requirements.txt" not in line for line in dockerfile)


def test_binder_has_the_python_of_its_image() -> None:
    """``runtime.txt`` takes a version without a patch level, and one that the package allows."""
    assert (ROOT / "binder" / "runtime.txt").read_text().strip() == "python-3.12"


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_the_install_step_works(copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The step of the Dockerfile, run for real: nothing conflicts, the lab and its Jupyter start."""
    monkeypatch.delenv("PYTHONPATH", raising=False)
    environment = tmp_path / "env"
    venv.create(environment, with_pip=True)
    python = environment / "bin" / "python"
    # Pip reports what it leaves out on stderr, and nothing of it is of interest here.
    pip = [str(python), "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "-r", "binder/requirements.txt"], cwd=copy, check=True)
    subprocess.run([*pip, "check"], check=True)
    subprocess.run([str(python), "-m", "labkit", "doctor"], cwd=tmp_path, check=True)
    subprocess.run([str(python), "-m", "notebook", "--version"], check=True)
    where = [str(python), "-c", "import labkit; print(labkit.__file__)"]
    found = subprocess.run(where, cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    assert Path(found).is_relative_to(copy)
