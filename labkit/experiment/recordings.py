"""Recordings: runs kept as JSON."""

from __future__ import annotations

import contextlib
import json
import reprlib
import sys
from collections.abc import Iterator
from os import PathLike, fspath
from pathlib import Path
from types import UnionType
from typing import Any, Final, NamedTuple

from labkit.errors import BadRecording, BadValue
from labkit.events import LANES, NUMBERS, Event, make
from labkit.support.autojump import CLOCKS
from labkit.timeline import Timeline
from labkit.verdict import judge

__all__ = ["Recording", "read", "write"]

#: The version of the format. A labkit reads its own version only, and refuses any other.
_FORMAT: Final = 1

_Types = type | UnionType


class Recording(NamedTuple):
    """The parts of a run that are kept. The verdict is not: it is read from the events again.

    Attributes:
        handler: the handler's name.
        on: the stack's name.
        fault: the fault as it was given.
        timeline: the events.
        clock: the name of their clock; older recordings have none, and theirs is the real one.
        clock_words: what there is to say of it.
    """

    handler: str
    on: str
    fault: str
    timeline: Timeline
    clock: str = "real"
    clock_words: str = ""


def write(recording: Recording, path: str | PathLike[str]) -> None:
    """Write a run as JSON.

    Args:
        recording: the run.
        path: the file; it is replaced if it exists.

    Raises:
        BadRecording: the file cannot be written; an existing file stays as it was.
    """
    events = list(recording.timeline)
    content: dict[str, Any] = {
        "labkit": _FORMAT,
        "handler": recording.handler,
        "on": recording.on,
        "fault": recording.fault,
        "clock": recording.clock,
        "clock_words": recording.clock_words,
        "events": [[*event] for event in events],
        # For each event, the numbers of the connection to which it belongs.
        **{name: [getattr(event, name) for event in events] for name in NUMBERS},
    }
    # Write all letters as they are, so that people can read the file. UTF-8 cannot encode half a character (a lone
    # surrogate); `backslashreplace` writes it as \uXXXX, which is also JSON's escape.
    written = _as_json(content).encode(errors="backslashreplace")
    file, name = _file(path)
    if not file.name:
        raise BadRecording(f"cannot write {name}: it names no file; give one, such as 'run.json'")
    # Write another file and rename it at the end, so that a full disk does not destroy an older recording.
    partial = file.with_name(file.name + ".partial")
    try:
        try:
            partial.write_bytes(written)
            partial.replace(file)
        finally:
            with contextlib.suppress(OSError, ValueError):
                partial.unlink(missing_ok=True)
    except (OSError, ValueError) as problem:
        raise BadRecording(f"cannot write {name}: {_why(problem)}") from None


def _as_json(content: dict[str, Any]) -> str:
    """Write each part on a line, and of the events each one."""
    lines = []
    for key, value in content.items():
        text = json.dumps(value, ensure_ascii=False) if key != "events" else _in_lines(value)
        lines.append(f" {json.dumps(key)}: {text}")
    return "{\n" + ",\n".join(lines) + "\n}"


def _in_lines(values: list[Any]) -> str:
    return "[" + ",".join(f"\n  {json.dumps(value, ensure_ascii=False)}" for value in values) + "\n ]"


def read(path: str | PathLike[str]) -> Recording:
    """Read a run.

    Args:
        path: a file that :func:`write` wrote.

    Returns:
        The run's parts.

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
    if type(content["labkit"]) is not int or content["labkit"] != _FORMAT:  # 1.0 and True are equal to 1
        version = reprlib.repr(content["labkit"])
        raise BadRecording(f"{name} has format {version}, this labkit reads {_FORMAT}; record the run again")
    try:
        return _recording(content)
    except ValueError as problem:
        raise BadRecording(f"{name} is a damaged recording: {problem}; record the run again") from None


def _file(path: str | PathLike[str]) -> tuple[Path, str]:
    """Return the file, and its name for a message."""
    try:
        return Path(path), repr(fspath(path))
    except TypeError:
        raise BadRecording(f"{path!r} is not the name of a file; give one, such as 'run.json'") from None


def _why(problem: OSError | ValueError) -> str:
    return (isinstance(problem, OSError) and problem.strerror) or str(problem)


def _recording(content: dict[str, Any]) -> Recording:
    content = {"clock": "real", "clock_words": ""} | content
    kinds = {"handler": str, "on": str, "fault": str, "clock": str, "clock_words": str, "events": list}
    for key, kind in kinds.items():
        _require(content, key, kind, "it")
    numbers = list(_numbers(content, len(content["events"])))
    events = [
        _event(f"event {n}", parts, its_numbers)
        for n, (parts, its_numbers) in enumerate(zip(content["events"], numbers, strict=True), 1)
    ]
    recording = Recording(
        content["handler"],
        content["on"],
        content["fault"],
        Timeline.of(events),
        content["clock"],
        content["clock_words"],
    )
    if recording.clock not in CLOCKS:
        raise ValueError(f"it has clock={reprlib.repr(recording.clock)}")
    try:
        judge(recording.timeline)
    except Exception as problem:  # each event may be right alone, but all of them together make no sense
        raise ValueError(f"its events make no verdict ({problem!r})") from None
    return recording


def _numbers(content: dict[str, Any], count: int) -> Iterator[dict[str, Any]]:
    """For each event, the numbers of its connection. Older recordings have none."""
    lists = {name: content.get(name, [None] * count) for name in NUMBERS}
    for name, numbers in lists.items():
        if not isinstance(numbers, list) or len(numbers) != count:
            raise ValueError(f"{name!r} has no number for each event")
    for n in range(count):
        yield {name: numbers[n] for name, numbers in lists.items()}


def _event(name: str, parts: Any, numbers: dict[str, Any]) -> Event:
    match parts:
        case [float() | int() as at, str() as lane, str() as kind, str() as text, dict() as data]:
            pass
        case _:
            raise ValueError(f"{name} is not [seconds, lane, kind, text, data]")
    if not abs(at) <= sys.float_info.max:
        raise ValueError(f"{name} happens at no time")
    if lane not in LANES:
        raise ValueError(f"{name} has no lane {reprlib.repr(lane)}")
    try:
        return make(lane, kind, text, data, at=float(at), numbers=numbers)
    except BadValue as problem:
        raise ValueError(f"{name}, {problem}") from None


def _require(data: dict[str, Any], key: str, kinds: _Types, name: str) -> None:
    if key not in data:
        raise ValueError(f"{name} has no {key!r}")
    if not isinstance(data[key], kinds):
        raise ValueError(f"{name} has {key}={reprlib.repr(data[key])}")
