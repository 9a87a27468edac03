"""A progress bar that leaves nothing behind."""

from __future__ import annotations

import sys
import threading
import warnings
from typing import Any

__all__ = ["bar"]


def bar(total: int, *, shown: bool | None = None) -> Any:
    """Make a progress bar: on stderr, or as a widget if the notebook has ipywidgets.

    Args:
        total: the number of steps.
        shown: whether to show it; if None, it is shown in a terminal and in a notebook.

    Returns:
        A bar of tqdm, for a ``with`` block.
    """
    with warnings.catch_warnings():
        # Without ipywidgets, tqdm warns and uses the plain bar.
        warnings.simplefilter("ignore")
        from tqdm.auto import tqdm

    class Bar(tqdm):  # type: ignore[misc] # tqdm has no types
        # tqdm's monitor thread, and its lock for several processes, would outlive the bar: use neither.
        monitor_interval = 0

    Bar.set_lock(threading.RLock())
    return Bar(
        total=total, desc="playing", unit="run", leave=False, disable=not (_has_viewer() if shown is None else shown)
    )


def _has_viewer() -> bool:
    return sys.stderr is not None and (sys.stderr.isatty() or type(sys.stderr).__module__.startswith("ipykernel"))
