"""What is installed, for the few expectations in which the versions of a library differ."""

from __future__ import annotations

from importlib.metadata import version


def older(library: str, than: str) -> bool:
    """Whether the installed version of a library is older than another one."""
    return _numbers(version(library)) < _numbers(than)


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(".")]
