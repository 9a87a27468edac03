"""Clients that are forked from a template, where many experiments are played together."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

import labkit
from labkit.clients.template import Template, one_template
from labkit.exercises.exercise import Trial
from labkit.support.clock import scaled
from tests import handlers
from tests.left import children

pytestmark = pytest.mark.skipif(Template.impossible, reason="no process is forked here")


def started(before: set[int]) -> list[psutil.Process]:
    """The processes below this one that are not of the test's beginning."""
    return [child for child in psutil.Process().children(recursive=True) if child.pid not in before]


async def test_each_client_of_a_matrix_has_a_process_of_its_own() -> None:
    """One process is their parent; each is a group of its own, ends by its signal, and is gone afterwards."""
    before, seen = {child.pid for child in psutil.Process().children(recursive=True)}, set[tuple[int, int, int]]()

    async def looks(websocket: Any) -> None:
        async for message in websocket:
            seen.update((child.pid, child.ppid(), os.getpgid(child.pid)) for child in started(before))
            await websocket.send(message)

    faults = ["sigint", "sigkill", "frozen-process"]
    table = await labkit.matrix([looks], on=["websockets"], faults=faults, patience=0.3)
    ended = {}
    for fault, run in zip(faults, table.runs, strict=True):
        assert run is not None
        [told] = run.timeline.select("client", "exit")
        [sent] = run.timeline.select("client", "signal")
        ended[sent.data["pid"]] = fault, told.data["status"]
    clients = {pid: (parent, group) for pid, parent, group in seen if parent != os.getpid()}
    assert clients.keys() <= ended.keys()
    assert len({parent for parent, _ in clients.values()}) == 1
    assert all(group == pid for pid, (_, group) in clients.items())
    assert sorted(ended.values()) == [
        ("frozen-process", -signal.SIGKILL),
        ("sigint", -signal.SIGINT),
        ("sigkill", -signal.SIGKILL),
    ]
    assert started(before) == []


async def test_those_of_a_check_have_one_parent_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A learner waits for what a check takes."""
    before, parents = {child.pid for child in psutil.Process().children(recursive=True)}, dict[int, int]()

    async def looks(websocket: Any) -> None:
        async for message in websocket:
            parents.update((child.pid, child.ppid()) for child in started(before))
            await websocket.send(message)

    monkeypatch.setenv("LABKIT_HOME", str(tmp_path))
    exercise = labkit.EXERCISES["recv"]
    rule = replace(exercise.rules[0], trials=tuple(map(Trial, ("sigint", "sigkill", "frozen-process"))))
    monkeypatch.setitem(labkit.EXERCISES, "signals", replace(exercise, name="signals", rules=(rule,)))
    report = await labkit.check("signals", looks)
    pids = {event.data["pid"] for run in report.runs for event in run.timeline.select("client", "signal")}
    assert len(pids) == 3
    assert len({parents[pid] for pid in pids} - {os.getpid()}) == 1
    assert started(before) == []


@pytest.mark.parametrize("client", labkit.CLIENTS)
async def test_it_is_the_same_as_without_a_template(client: str) -> None:
    """What a client tells, and what the handler is told."""
    stories = []
    for together in (False, True):
        options: dict[str, Any] = {"on": "websockets", "fault": "sigint", "client": client}
        if together:
            async with one_template():
                run = await labkit.play(handlers.websockets_echo, **options)
        else:
            run = await labkit.play(handlers.websockets_echo, **options)
        stories.append([(e.kind, re.sub(r":\d+", "", e.text)) for e in run.timeline if e.lane == "client"])
        stories[-1] += [("verdict", str(run.verdict.close_code)), ("verdict", run.verdict.ending)]
    assert stories[0] == stories[1]


async def test_clients_begin_by_themselves_when_the_template_has_died() -> None:
    """It is a process, which somebody may kill."""
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    async with one_template():
        await labkit.play(handlers.websockets_echo, on="websockets", fault="sigkill")
        [template] = started(before)
        template.kill()
        run = await labkit.play(handlers.websockets_echo, on="websockets", fault="sigkill")
    [gone] = run.timeline.select("client", "exit")
    assert gone.data == {"how": "SIGKILL", "status": -signal.SIGKILL}
    assert started(before) == []


def test_a_frozen_client_ends_with_a_lab_that_is_killed() -> None:
    """The template ends with the lab, and the system ends what is stopped and has lost its parent."""
    before = children()
    lab = subprocess.Popen([sys.executable, "-c", FREEZES], stdout=subprocess.PIPE, process_group=0)
    assert lab.stdout is not None
    client = psutil.Process(int(lab.stdout.readline()))
    template = client.parent()
    assert template is not None
    assert template.pid != lab.pid
    assert client.status() == psutil.STATUS_STOPPED
    lab.kill()
    lab.wait()
    lab.stdout.close()
    gone, alive = psutil.wait_procs([client, template], timeout=scaled(10))
    assert (len(gone), alive) == (2, [])
    assert children() == before


#: Plays a matrix with a client that is stopped, and tells its process.
FREEZES = """
import asyncio, psutil, labkit

async def main():
    playing = asyncio.ensure_future(labkit.matrix([echo], on=["websockets"], faults=["frozen-process"], patience=60))
    me = psutil.Process()
    while not (frozen := [c.pid for c in me.children(recursive=True) if c.status() == psutil.STATUS_STOPPED]):
        await asyncio.sleep(0.01)
    print(*frozen, flush=True)
    await playing

async def echo(websocket):
    async for message in websocket:
        await websocket.send(message)

labkit.run(main())
"""
