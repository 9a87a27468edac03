"""Many ways to be right, and many to be wrong: each exercise tells them apart, in whatever style they come."""

from __future__ import annotations

import asyncio
import functools
import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import labkit
from labkit.exercises import Report
from tests.exercises import styles
from tests.exercises.alone import with_one_rule
from tests.exercises.styles import Styles, styles_of

#: Exercises that face every fault of the lab: one check takes seconds, and all styles a minute.
_LONG = {"survive-aiohttp", "survive-websockets"}

#: Exercises that tell one second from 0.8: beside others, the loop may be late by that.
_EXACT = {"catch-cancelled"}


def _found() -> dict[str, Styles]:
    for name in labkit.EXERCISES:
        importlib.import_module(f"{styles.__name__}.{name.replace('-', '_')}")
    return {name: styles_of(name) for name in labkit.EXERCISES}


STYLES = [
    pytest.param(name, found, id=name, marks=[pytest.mark.soak if name in _LONG else pytest.mark.slow])
    for name, found in _found().items()
]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path))


def name_of(handler: Any) -> str:
    while isinstance(handler, functools.partial):
        handler = handler.func
    return getattr(handler, "__name__", type(handler).__name__)


async def check_all(name: str, handlers: Mapping[Any, str]) -> list[Report]:
    """A few at the same time, so that the loop is not late for the limits of the handlers themselves.

    Args:
        name: the exercise's name.
        handlers: the handlers, each with the name of the exercise that it is checked against.
    """
    few = asyncio.Semaphore(1 if name in _LONG | _EXACT else 3)

    async def check(handler: Any, against: str) -> Report:
        async with few:
            return await labkit.check(against, handler)

    return await asyncio.gather(*(check(*each) for each in handlers.items()))


@pytest.mark.parametrize(("name", "found"), STYLES)
async def test_each_right_handler_passes(name: str, found: Styles) -> None:
    """A class, a partial, a decorator, a task group, an exit stack, a loop of recv, anyio, callbacks."""
    assert len(found.right) >= 6
    reports = await check_all(name, dict.fromkeys(found.right, name))
    for handler, report in zip(found.right, reports, strict=True):
        assert report.passed, f"{name_of(handler)}: {report}"


@pytest.mark.parametrize("whole", [False, pytest.param(True, marks=pytest.mark.soak)], ids=["its rule", "every rule"])
@pytest.mark.parametrize(("name", "found"), STYLES)
async def test_each_wrong_handler_is_caught(
    name: str, found: Styles, monkeypatch: pytest.MonkeyPatch, *, whole: bool
) -> None:
    """By the rule that it breaks, whichever others it breaks."""
    alone = with_one_rule(name, monkeypatch)
    reports = await check_all(name, {handler: name if whole else alone[rule] for handler, rule in found.wrong.items()})
    for (handler, rule), report in zip(found.wrong.items(), reports, strict=True):
        assert report.bug is None, f"{name_of(handler)}: {report}"
        assert rule in report.broken, f"{name_of(handler)}: {report}"
