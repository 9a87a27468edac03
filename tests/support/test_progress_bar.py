"""The progress bar: seen where somebody watches, and gone afterwards."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from labkit.support.progress_bar import bar


def test_it_goes_to_stderr_and_leaves_no_thread(capsys: pytest.CaptureFixture[str]) -> None:
    """Standard output is for results; tqdm's watching thread is not started."""
    before = threading.active_count()
    with bar(2, shown=True) as steps:
        steps.update(2)
        assert threading.active_count() == before
    out, err = capsys.readouterr()
    assert out == ""
    assert "2/2" in err or "0/2" in err


@pytest.mark.parametrize("shown", [None, False])
def test_nobody_watches_a_log(shown: bool | None, capsys: pytest.CaptureFixture[str]) -> None:
    """Where stderr is no terminal, nothing is written unless it is asked for."""
    with bar(2, shown=shown) as steps:
        steps.update()
    assert capsys.readouterr() == ("", "")


def test_without_ipywidgets_a_notebook_is_not_warned() -> None:
    """In a kernel tqdm would warn and ask for ipywidgets; the plain bar will do."""
    # What tqdm.autonotebook looks at: a kernel, and no ipywidgets.
    program = """
import sys, types
sys.modules["ipykernel.zmqshell"] = types.SimpleNamespace()
sys.modules["IPython"] = types.SimpleNamespace(get_ipython=lambda: None)
sys.modules["ipywidgets"] = None
from labkit.support.progress_bar import bar
with bar(1, shown=True) as steps:
    steps.update()
print(type(steps).__mro__[1].__module__)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "Warning" not in done.stderr
    assert "IProgress" not in done.stderr
    assert done.stdout == "tqdm.asyncio\n"


def test_it_starts_no_process() -> None:
    """A semaphore that other processes could share would have a tracker, where processes are not forked."""
    program = """
import multiprocessing, psutil
multiprocessing.set_start_method("spawn")
from labkit.support.progress_bar import bar
with bar(1, shown=True) as steps:
    steps.update()
print(psutil.Process().children())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
