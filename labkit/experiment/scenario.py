"""The scenario of an experiment: the client connects and talks, the fault strikes, and everything ends."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

from labkit.clients import Client
from labkit.events import (
    CleanupClosed,
    CleanupClosing,
    CleanupTruncated,
    ClientEnded,
    ClientError,
    ClientExit,
    ClientOpen,
    ClientRecv,
    ClientRefused,
    Event,
    HandlerEnd,
    HandlerSend,
    HandlerStart,
    LibraryEvent,
    WireFault,
    WireSpared,
)
from labkit.experiment.between import AfterFrames
from labkit.experiment.path import Path
from labkit.experiment.when import THROUGH, When, make_moment
from labkit.faults import Fault
from labkit.faults.fault import Scene
from labkit.findings import find_answers
from labkit.support.clock import scaled, timeout
from labkit.support.loop import finish
from labkit.timeline import Timeline
from labkit.watch.moments import AfterSeconds, BeforeClose, Moment
from labkit.watch.over import why_over

__all__ = ["run_scenario"]

#: Seconds to wait for something that may never come: the end of a connection, or of a library's work.
_GRACE = 0.25

#: So many turns of the loop bring everywhere what has already happened.
_TURNS = 5


async def run_scenario(
    paths: Sequence[Path],
    fault: Fault | None,
    messages: Sequence[str | bytes],
    patience: float,
    when: When = THROUGH,
) -> None:
    """Let the clients connect and talk, let the fault strike the first, and wait until its connection has ended.

    The others stay. They talk once more after the fault, so that it shows whether they still get answers.

    Args:
        paths: the path of each client, not yet connected.
        fault: the fault; None for clients that stay.
        messages: what each client sends, if it has no talk.
        patience: the longest wait for each event, in seconds, already scaled.
        when: when the fault strikes.
    """
    begun: list[asyncio.Task[Any]] = []

    def begin(coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        begun.append(asyncio.create_task(coroutine))
        return begun[-1]

    path = paths[0]
    scene = Scene(path.wire, path.client, path.server, path.timeline, patience, messages, begin)
    try:
        if fault is not None and (moment := make_moment(when, fault, path)) is not None:
            await _run_to(moment, scene, path, paths[1:], fault)
        else:
            await _run(scene, path, paths[1:], fault)
    finally:
        for task in begun:
            task.cancel()
        for each in paths:
            if each.talk is not None:
                await finish(each.talk.stop)


async def _run(scene: Scene, path: Path, others: Sequence[Path], fault: Fault | None) -> None:
    """Let the fault strike when the conversation is through, or in the handshake."""
    if fault is not None and fault.moment == "handshake":
        await _strike(fault, scene, path)
    talking = [each for each in (path, *others) if await _open(each, scene.patience)]
    await _all([_talk(each, scene, to_its_end=fault is not None) for each in talking])
    if fault is not None and fault.moment == "talk" and path in talking:
        if len(talking) > 1 and path.talk is None:
            # Once more, since the others have gone on talking, and their handlers may have told this client.
            await path.wait_until_through(scene.patience)
        await _strike(fault, scene, path)
        talking.remove(path)
        await _go_on(scene, path, talking)
    else:
        await _end(path, scene.patience)
        if fault is not None and fault.moment == "talk" and (why := _never_open(path)) is not None:
            _spare(fault, path, why)


async def _run_to(moment: Moment, scene: Scene, path: Path, others: Sequence[Path], fault: Fault) -> None:
    """Let the fault strike at a moment. The other clients connect and talk before."""
    path.watch_for(moment)
    talking = [each for each in others if await _open(each, scene.patience)]
    await _all([_talk(each, scene, to_its_end=True) for each in talking])
    try:
        has_come = await _reach(moment, scene, path)
        if not path.seen or any(map(_is_start, path.timeline)):
            await _strike(fault, scene, path, moment, missed=None if has_come else moment.missed)
    finally:
        moment.release()
    await _go_on(scene, path, talking)


async def _reach(moment: Moment, scene: Scene, path: Path) -> bool:
    """Let the client connect and talk until a moment comes.

    Args:
        moment: the moment.
        scene: the parts of the experiment.
        path: the client's path.

    Returns:
        Whether it has come, before the connection was over, or before the patience was over after the conversation.
    """
    coming, opening = scene.begin(moment.wait()), scene.begin(_open(path, scene.patience))

    async def rest(between: AfterFrames) -> None:
        if await asyncio.shield(opening):
            await between.rest(scene.patience)

    resting = [scene.begin(rest(moment))] if isinstance(moment, AfterFrames) else []

    async def live() -> None:
        if await asyncio.shield(opening) and not moment.has_come:
            await _talk(path, scene, to_its_end=True, until=lambda: moment.has_come)

    living = scene.begin(live())
    over = scene.begin(path.timeline.until(lambda event: why_over(event) is not None or _is_over(event)))
    waits = {coming, living} if isinstance(moment, BeforeClose) else {coming, living, over}
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    if moment.has_come:
        living.cancel()  # what the client has not sent yet, it does not send; a talk goes on by itself
        await _wait_briefly(opening)  # a handler may start, and suspend, before its client has heard of it
        await asyncio.gather(*resting)
        return True
    if living.done():
        living.result()
        if isinstance(moment, BeforeClose):
            return True  # through
        if path.talk is None or path.talk.failure is None:
            with contextlib.suppress(TimeoutError):
                async with timeout(None if isinstance(moment, AfterSeconds) else scene.patience):
                    await asyncio.wait({coming, over}, return_when=asyncio.FIRST_COMPLETED)
    for _ in range(_TURNS):
        await asyncio.sleep(0)  # what comes at the same time as the end of the connection has come
    living.cancel()
    if moment.has_come:
        await asyncio.gather(*resting)
    return moment.has_come


async def _go_on(scene: Scene, path: Path, others: Sequence[Path]) -> None:
    """Wait for what comes of the fault; the other clients talk once more."""
    if not path.seen:
        # Only then a server elsewhere, such as a process that the fault has ended, has shown what it makes of it.
        await _end(path, scene.patience)
    await _all([_end(path, scene.patience), *(_ask_again(each, scene) for each in others)])
    await _all([_end(each, scene.patience) for each in others if any(map(_is_over, each.timeline))])


async def _all(steps: Sequence[Coroutine[Any, Any, None]]) -> None:
    if len(steps) == 1:
        await steps[0]
        return
    async with asyncio.TaskGroup() as group:
        for step in steps:
            group.create_task(step)


async def _open(path: Path, patience: float) -> bool:
    """Connect, and wait for the handler; return whether the server accepted."""
    await path.client.ready()
    accepted = await _connect(path.client, patience)
    if accepted and path.seen:
        await path.timeline.until(_is_start, patience)
    return accepted


async def _talk(path: Path, scene: Scene, *, to_its_end: bool, until: Callable[[], bool] = lambda: False) -> None:
    """Send the messages, each when the handler is through with all before it; or run the client's own talk.

    Args:
        path: the client's path.
        scene: the parts of the experiment.
        to_its_end: whether to wait until the last message is through too.
        until: asked before each message whether to stop.
    """
    if path.talk is not None:
        path.through = await path.talk.through(scene.patience)
        return
    through = await path.wait_until_through(scene.patience)
    for number, message in enumerate(scene.messages, 1):
        if through.over or until():
            break
        path.send(message)
        if number < len(scene.messages) or to_its_end:
            through = await path.wait_until_through(scene.patience)


async def _ask_again(path: Path, scene: Scene) -> None:
    """Send the messages once more, after the fault, and wait for the answers of the client's own handler.

    If it has answered before, an answer that does not come is waited for as long as the patience lasts, since the
    verdict will say so. What the handlers of other clients send to this one is no answer.
    """
    timeline = path.timeline
    answered, by_itself = find_answers(timeline)
    limit = scene.patience if answered else scaled(_GRACE)
    for message in _said(path, scene):
        before, given = len(timeline), not by_itself
        path.client.send(message)

        def is_through(event: Event) -> bool:
            nonlocal given
            given = given or _is_of_its_own(event)
            return _is_over(event) or (given and isinstance(event, ClientRecv))

        event = await timeline.until(is_through, limit, start=before)
        if event is None or _is_over(event):
            return


async def _end(path: Path, patience: float) -> None:
    """Wait until the handler has ended, and all that belongs to its end; for a limited time."""
    timeline = path.timeline
    if any(map(_is_refusal, timeline)):
        await _wait_briefly(path.client.ended())
    if not path.seen:
        # The wire alone tells of such a server, as long as there is a connection.
        await path.timeline.until(lambda _: not any(link.live for link in path.wire.links), patience)
        await path.server.settled(patience)
        return
    began = asyncio.get_running_loop().time()
    if not any(map(_is_start, timeline)) or await timeline.until(_is_end, patience) is None:
        return
    # The handler has ended. But a shielded cleanup may still run, and the library must still end the connection.
    await timeline.until(lambda _: not _is_closing(timeline), patience)
    await _wait_briefly(path.client.ended(), *(link.closed() for link in path.wire.links))
    await path.server.settled(scaled(_GRACE))
    # What the handler has started may end by itself in the rest of the patience.
    await path.server.outlived(max(patience - (asyncio.get_running_loop().time() - began), scaled(_GRACE)))


async def _connect(client: Client, patience: float) -> bool:
    """Connect. Give up on a server that never answers after the patience, or after the client's own timeout."""
    try:
        async with timeout(patience):
            return await client.connect()
    except TimeoutError:
        return False


def _said(path: Path, scene: Scene) -> Sequence[str | bytes]:
    """The messages of a client, which it sends once more after the fault."""
    return scene.messages if path.talk is None else tuple(path.said)


async def _strike(
    fault: Fault, scene: Scene, path: Path, moment: Moment | None = None, *, missed: str | None = None
) -> None:
    number = None if fault.strikes_all else path.client.number
    scene = dataclasses.replace(scene, messages=_said(path, scene))
    if moment is not None and type(fault).due is not Fault.due:
        moment.release()  # what the fault waits for may be the handler's to do
    due = missed is not None or await fault.due(scene)
    await path.server.look()
    over = next(filter(None, map(why_over, scene.timeline)), None)
    failed = None if path.talk is None else path.talk.failure
    when = None if moment is None else moment.words
    if why := ", and ".join(filter(None, (over or failed, missed))):
        _spare(fault, path, why, when)
    elif due:
        if moment is not None and when is not None:
            unknown = moment.doubt
        else:
            unknown = None if path.through is None or path.through.known else path.through.why
        line, waits = path.stands()
        struck = WireFault(
            *(fault.name, fault.family, fault.knobs(), unknown),
            when=when,
            line=line,
            waits=waits,
            text=str(fault),
            connection=number,
        )
        scene.timeline.append(struck)
        if path.talk is not None:
            path.talk.struck()
        await _carry_out(fault, scene, moment)


def _spare(fault: Fault, path: Path, why: str, when: str | None = None) -> None:
    """Record that the fault does not strike, and why."""
    text = f"{fault} does not strike, since {why}"
    spared = WireSpared(fault.name, fault.family, why, when=when, text=text, connection=path.client.number)
    path.timeline.append(spared)


def _never_open(path: Path) -> str | None:
    """Why there was no WebSocket to strike, though the handler was called; None if it was not called, or there was."""
    if not any(map(_is_start, path.timeline)) or any(isinstance(event, ClientOpen) for event in path.timeline):
        return None
    refused = next(filter(_is_refusal, path.timeline), None)
    return "the handshake was never complete" if refused is None else f"the client was refused: {refused.text}"


async def _carry_out(fault: Fault, scene: Scene, moment: Moment | None) -> None:
    """Carry out the fault; if the handler is held at a moment, let it go on when the fault has had its effect."""
    before = len(scene.timeline)
    if moment is None:
        await fault.strike(scene)
        return
    striking = scene.begin(fault.strike(scene))
    await asyncio.sleep(0)  # the first step, up to what the fault waits for
    moment.struck()
    if fault.ends in {"connection", "server"}:
        # The handler must find the connection as the fault leaves it, however fast it goes on.
        await scene.timeline.until(lambda event: isinstance(event, LibraryEvent), scaled(_GRACE), start=before)
    moment.release()
    await striking


async def _wait_briefly(*ends: Awaitable[object]) -> None:
    """Wait a short time for what should come now, such as the end of a connection."""
    with contextlib.suppress(TimeoutError):
        async with timeout(scaled(_GRACE)):
            await asyncio.gather(*ends)


def _is_refusal(event: Event) -> bool:
    return isinstance(event, ClientRefused)


def _is_start(event: Event) -> bool:
    return isinstance(event, HandlerStart)


def _is_end(event: Event) -> bool:
    return isinstance(event, HandlerEnd)


def _is_over(event: Event) -> bool:
    """Whether the connection is over for the client or the handler."""
    return isinstance(event, ClientEnded | ClientExit | ClientError | HandlerEnd)


def _is_of_its_own(event: Event) -> bool:
    """Whether a handler gives a message to the library for its own connection."""
    return isinstance(event, HandlerSend) and event.by is None


def _is_closing(timeline: Timeline) -> bool:
    """Whether a resource has begun to close and has not finished."""
    begun = len(timeline.all(CleanupClosing))
    return begun > len(timeline.all(CleanupClosed, CleanupTruncated))
