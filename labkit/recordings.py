"""Recordings: runs kept as JSON."""

from __future__ import annotations

import contextlib
import json
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Final

from labkit.errors import BadRecording
from labkit.experiment import Run
from labkit.timeline import LANES, Event, Timeline

__all__ = ["load", "save"]

#: The version of the format; a reader takes its own and refuses what is newer.
_FORMAT: Final = 1


def save(run: Run, path: str | PathLike[str]) -> None:
    """Keep a run.

    The verdict is not kept: it is read off the events again.

    Args:
        run: the run.
        path: the file; it is replaced if it exists.

    Raises:
        BadRecording: it cannot be written; a file that was there stays as it was.
    """
    events = [[event.at, event.lane, event.kind, event.text, dict(event.data)] for event in run.timeline]
    content = {"labkit": _FORMAT, "handler": run.handler, "on": run.on, "fault": run.fault, "events": events}
    # Written whole before it is put in place, so that a full disk costs no older recording.
    text = json.dumps(content, ensure_ascii=False, indent=1)
    target = Path(path)
    partial = target.with_name(target.name + ".partial")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(target)
    except OSError as problem:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise BadRecording(f"cannot write {fspath(path)!r}: {problem.strerror or problem}") from None


def load(path: str | PathLike[str]) -> Run:
    """Read a run back.

    Args:
        path: a file that ``run.save`` wrote.

    Returns:
        The run; its events, and so its verdict and its pictures, are those of the original.

    Raises:
        BadRecording: there is no such file, or it is not a recording.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as problem:
        raise BadRecording(f"cannot read {fspath(path)!r}: {problem.strerror or problem}") from None
    except ValueError as problem:
        raise BadRecording(f"{fspath(path)!r} is not a recording: it is not JSON ({problem})") from None
    if not isinstance(content, dict) or "labkit" not in content:
        raise BadRecording(f"{fspath(path)!r} is not a recording; make one with run.save(path)")
    if content["labkit"] != _FORMAT:
        raise BadRecording(
            f"{fspath(path)!r} has format {content['labkit']!r}, this labkit reads {_FORMAT}; record the run again"
        )
    try:
        timeline = Timeline.of([_event(*event) for event in content["events"]])
        return Run(str(content["handler"]), str(content["on"]), str(content["fault"]), timeline)
    except (KeyError, TypeError, ValueError) as problem:
        raise BadRecording(f"{fspath(path)!r} is a damaged recording: {problem!r}") from None


def _event(at: float, lane: Any, kind: str, text: str, data: dict[str, Any]) -> Event:
    if lane not in LANES:
        raise ValueError(f"no lane {lane!r}")
    return Event(float(at), lane, str(kind), str(text), dict(data))
