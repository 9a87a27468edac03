"""Recordings: runs kept as JSON."""

from __future__ import annotations

import contextlib
import json
import reprlib
import sys
from os import PathLike, fspath
from pathlib import Path
from types import UnionType
from typing import Any, Final

from labkit.errors import BadRecording
from labkit.experiment import Run
from labkit.timeline import LANES, Event, Timeline

__all__ = ["load", "save"]

#: The version of the format; a reader takes its own and refuses what is newer.
_FORMAT: Final = 1

_Types = type | UnionType

#: What the verdict and the views read of an event's data, by lane and kind.
_READ: Final[dict[tuple[str, str], dict[str, _Types]]] = {
    ("client", "ended"): {"how": str, "code": int | None, "exception": str | None},
    ("client", "refused"): {"exception": str | None},
    ("wire", "frame"): {"link": int, "source": str, "opcode": str, "length": int},
    ("wire", "lost"): {"link": int, "source": str, "length": int},
    ("wire", "opaque"): {"source": str},
    ("handler", "start"): {"handler": str, "stack": str, "library": str, "given": str, "call": int},
    ("handler", "lines"): {
        "executable": list,
        "tool": str | None,
        "why": str | None,
        "source": str | None,
        "first": int,
    },
    ("handler", "line"): {"line": int},
    ("handler", "cancelled"): {"by": str | None, "package": str | None},
    ("handler", "log"): {"levelno": int},
    ("handler", "end"): {"ending": str, "exception": str | None, "close_code": int | None, "call": int},
    **{("cleanup", kind): {"id": int} for kind in ("open", "closing", "closed", "truncated", "failed")},
}


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
    # Letters stay letters, for who reads the file; half a character, which UTF-8 cannot hold, becomes JSON's escape.
    written = json.dumps(content, ensure_ascii=False, indent=1).encode(errors="backslashreplace")
    target, name = _file(path)
    if not target.name:
        raise BadRecording(f"cannot write {name}: it names no file; give one, such as 'run.json'")
    # Written whole before it is put in place, so that a full disk costs no older recording.
    partial = target.with_name(target.name + ".partial")
    try:
        try:
            partial.write_bytes(written)
            partial.replace(target)
        finally:
            with contextlib.suppress(OSError, ValueError):
                partial.unlink(missing_ok=True)
    except (OSError, ValueError) as problem:
        raise BadRecording(f"cannot write {name}: {_why(problem)}") from None


def load(path: str | PathLike[str]) -> Run:
    """Read a run back.

    Args:
        path: a file that ``run.save`` wrote.

    Returns:
        The run; its events, and so its verdict and its pictures, are those of the original.

    Raises:
        BadRecording: there is no such file, or it is not a recording.
    """
    file, name = _file(path)
    try:
        written = file.read_bytes()
    except (OSError, ValueError) as problem:
        raise BadRecording(f"cannot read {name}: {_why(problem)}") from None
    try:
        content = json.loads(written.decode())
    except (RecursionError, ValueError) as problem:
        raise BadRecording(f"{name} is not a recording: it is not JSON that can be read ({problem})") from None
    if not isinstance(content, dict) or "labkit" not in content:
        raise BadRecording(f"{name} is not a recording; make one with run.save(path)")
    if content["labkit"] != _FORMAT:
        told = reprlib.repr(content["labkit"])
        raise BadRecording(f"{name} has format {told}, this labkit reads {_FORMAT}; record the run again")
    try:
        return _run(content)
    except ValueError as problem:
        raise BadRecording(f"{name} is a damaged recording: {problem}; record the run again") from None


def _file(path: str | PathLike[str]) -> tuple[Path, str]:
    """The file, and its name for a sentence."""
    try:
        return Path(path), repr(fspath(path))
    except TypeError:
        raise BadRecording(f"{path!r} is not the name of a file; give one, such as 'run.json'") from None


def _why(problem: OSError | ValueError) -> str:
    return (isinstance(problem, OSError) and problem.strerror) or str(problem)


def _run(content: dict[str, Any]) -> Run:
    for key, kind in {"handler": str, "on": str, "fault": str, "events": list}.items():
        _check(content, key, kind, "it")
    events = [_event(f"event {number}", parts) for number, parts in enumerate(content["events"], 1)]
    run = Run(content["handler"], content["on"], content["fault"], Timeline.of(events))
    try:
        _ = run.verdict
    except Exception as problem:  # each event may be right, and all of them together make no sense
        raise ValueError(f"its events make no verdict ({problem!r})") from None
    return run


def _event(name: str, parts: Any) -> Event:
    match parts:
        case [float() | int() as at, str() as lane, str() as kind, str() as text, dict() as data]:
            pass
        case _:
            raise ValueError(f"{name} is not [seconds, lane, kind, text, data]")
    if not abs(at) <= sys.float_info.max:
        raise ValueError(f"{name} happens at no time")
    if lane not in LANES:
        raise ValueError(f"{name} has no lane {reprlib.repr(lane)}")
    for key, kinds in _READ.get((lane, kind), {}).items():
        _check(data, key, kinds, f"{name}, {lane} {kind},")
    if (lane, kind) == ("handler", "lines") and not all(isinstance(line, int) for line in data["executable"]):
        raise ValueError(f"{name} names a line that is no number")
    return Event(float(at), lane, kind, text, data)


def _check(data: dict[str, Any], key: str, kinds: _Types, name: str) -> None:
    if key not in data:
        raise ValueError(f"{name} has no {key!r}")
    if not isinstance(data[key], kinds):
        raise ValueError(f"{name} has {key}={reprlib.repr(data[key])}")
