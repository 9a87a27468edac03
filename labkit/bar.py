"""A progress bar that leaves nothing behind."""

from __future__ import annotations

import sys
import threading
import warnings
from typing import Any

__all__ = ["bar"]


def bar(total: int, *, shown: bool | None = None) -> Any:
    """Make a progress bar, on stderr, or as a widget where the notebook has ipywidgets.

    Args:
        total: the number of steps.
        shown: whether it is; if None, where somebody watches: in a terminal or a notebook.

    Returns:
        A bar of tqdm's, to be used in a ``with``.
    """
    with warnings.catch_warnings():
        # Without ipywidgets tqdm warns, and takes the plain bar.
        warnings.simplefilter("ignore")
        from tqdm.auto import tqdm

    class Bar(tqdm):  # type: ignore[misc] # tqdm has no types
        # No thread that watches over bars, and no semaphore for bars in other processes: both would stay.
        monitor_interval = 0

    Bar.set_lock(threading.RLock())
    return Bar(
        total=total, desc="matrix", unit="cell", leave=False, disable=not (_watched() if shown is None else shown)
    )


def _watched() -> bool:
    return sys.stderr is not None and (sys.stderr.isatty() or type(sys.stderr).__module__.startswith("ipykernel"))
