"""What each exercise asks for, as a raw socket can see it: what its client does, and what must hold then."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

from tests.differential.peer import CLOSE, TEXT, Peer, frame, text, wait
from tests.differential.story import seconds
from tests.exercises.oracle.stage import Act, Seen, Stage

__all__ = ["GOALS", "Look"]

Judge = Callable[[Seen], Iterator[str]]


class Look(NamedTuple):
    """One look at a handler.

    Attributes:
        on: the stack.
        what: what the client does, in a word.
        act: does it.
        judges: each says what is wrong.
        patience: how long to wait for the handler's end, in seconds.
        say: what the client says before.
    """

    on: str
    what: str
    act: Act
    judges: Sequence[Judge]
    patience: float = 2.0
    say: Sequence[str] = ("hello", "again")


# --- What a client does ----------------------------------------------------------------------------------------------


def _closes(payload: bytes) -> Act:
    return lambda stage: stage.peer.close(payload)


async def _says_and_closes(stage: Stage) -> None:
    await stage.peer.send(text("more"), frame(CLOSE, b"\x03\xe8"))


async def _reset(stage: Stage) -> None:
    stage.peer.reset()


async def _fin(stage: Stage) -> None:
    stage.peer.fin()


async def _half_close(stage: Stage) -> None:
    stage.peer.half_close()


async def _half_a_frame(stage: Stage) -> None:
    await stage.peer.send(frame(CLOSE, b"\x03\xe8", announced=20))
    stage.peer.fin()


async def _silence(stage: Stage) -> None:
    stage.peer.stop_reading()


async def _stays(_: Stage) -> None: ...


async def _becomes_slow(stage: Stage) -> None:
    stage.peer.slow_down(0.02)


def _waits(act: Act) -> Act:
    """Do so when a handler that nobody has told anything has got as far as it can."""

    async def wait(stage: Stage) -> None:
        await asyncio.sleep(seconds(0.1))
        stage.seen.struck = asyncio.get_running_loop().time()
        await act(stage)

    return wait


async def _burst(stage: Stage) -> None:
    """Many messages and a RST, before the server's loop has its next turn."""
    await stage.peer.send(*[text("hello")] * 200)
    stage.peer.reset()


def _cancels(times: int) -> Act:
    return lambda stage: stage.cancel(times)


async def _closes_and_cancels(stage: Stage) -> None:
    """A goodbye; and a cancel when the handler has begun to close something, or will close nothing."""
    await stage.peer.close(b"\x03\xe8")
    await stage.until(lambda: any(it.begun is not None for it in stage.seen.resources), 1)
    await stage.cancel(1)


async def _shutdown(stage: Stage) -> None:
    stage.shut_down()


async def _bad_text(stage: Stage) -> None:
    await stage.peer.send(frame(TEXT, b"caf\xe9"))


def _talks_on(every: float, times: int) -> Act:
    async def act(stage: Stage) -> None:
        for number in range(times):
            await asyncio.sleep(every)
            await stage.peer.send(text(str(number)))

    return act


NORMAL: Final = {"1000": _closes(b"\x03\xe8"), "1001": _closes(b"\x03\xe9"), "no code": _closes(b"")}
OTHER: Final = {
    "1002": _closes(b"\x03\xea"),
    "1011": _closes(b"\x03\xf3"),
    "4000": _closes(b"\x0f\xa0"),
    "reset": _reset,
    "fin": _fin,
    "half a frame": _half_a_frame,
}
WORDLESS: Final = {"1000": NORMAL["1000"], "reset": _reset}
VANISHES: Final = {"reset": _reset, "fin": _fin, "half close": _half_close, "half a frame": _half_a_frame}


# --- What must hold --------------------------------------------------------------------------------------------------


def echoes(seen: Seen) -> Iterator[str]:
    """The first two messages came back."""
    if seen.heard[:2] != ["hello", "again"]:
        yield f"its client got {seen.heard[:3]}"


def echoes_the_empty(seen: Seen) -> Iterator[str]:
    """An empty message came back too."""
    if seen.heard[:2] != ["", "again"]:
        yield f"its client got {seen.heard[:3]}"


def returns(seen: Seen) -> Iterator[str]:
    """It returned, and nobody complained."""
    if seen.end != "":
        yield "it runs on" if seen.end is None else f"it ends by {seen.end}"
    yield from quiet(seen)


def passes(seen: Seen) -> Iterator[str]:
    """A cancel passes; without one, it returned."""
    if seen.end is None:
        yield "it runs on"
    elif seen.end != ("CancelledError" if seen.cancelled else ""):
        yield f"it ends by {seen.end or 'return'}, {'cancelled' if seen.cancelled else 'not cancelled'}"


def quiet(seen: Seen) -> Iterator[str]:
    """Nobody complained."""
    if seen.log or seen.left:
        yield f"the log has {seen.log + seen.left}"


def notes(*texts: str) -> Judge:
    """Make the judge of what it noted."""

    def judge(seen: Seen) -> Iterator[str]:
        if seen.noted != list(texts):
            yield f"it notes {seen.noted}"

    return judge


def ends_within(limit: float) -> Judge:
    """Make the judge of how soon it ended."""

    def judge(seen: Seen) -> Iterator[str]:
        if seen.ended is None:
            yield "it runs on"
        elif seen.ended - seen.more.get("since", seen.struck) > seconds(limit):
            yield f"it ends {seen.ended - seen.struck:.1f} s later"

    return judge


def closes(number: int) -> Judge:
    """Make the judge of its cleanup: each resource was open when the client left, and closed before the end."""

    def judge(seen: Seen) -> Iterator[str]:
        used = [it for it in seen.resources if it.opened is not None and it.opened <= seen.struck]
        if len([it for it in used if it.begun is None or it.begun >= seen.struck]) < number:
            yield f"{len(used)} resources were open"
        for it in seen.resources:
            if it.closed is None or seen.ended is None or it.closed > seen.ended:
                yield "a resource is not closed in full before the end"

    return judge


def in_one_go(seen: Seen) -> Iterator[str]:
    """No closing was cut short."""
    if any(it.cuts for it in seen.resources):
        yield "a closing is cut short"
    if any(it.at_once for it in seen.resources):
        yield "a closing begins in the middle of another"


def leaves_nothing(seen: Seen) -> Iterator[str]:
    """No task, and no error that nobody has seen."""
    if seen.left:
        yield f"left: {seen.left}"


def stays(seen: Seen) -> Iterator[str]:
    """It still runs."""
    if seen.end is not None:
        yield f"it ends, by {seen.end or 'return'}"


# --- The exercises ---------------------------------------------------------------------------------------------------


def _goodbye() -> Iterator[Look]:
    for what, act in (NORMAL | OTHER).items():
        yield Look("aiohttp", what, act, (echoes, returns, notes("bye" if what in NORMAL else "lost")))
    for what, act in WORDLESS.items():
        yield Look(
            "aiohttp", f"{what} without a word", act, (returns, notes("bye" if what in NORMAL else "lost")), say=()
        )
    yield Look("aiohttp", "an empty message", NORMAL["1000"], (echoes_the_empty,), say=("", "again"))
    yield Look("aiohttp", "quiet", _stays, (echoes, stays), 1.0)


def _recv() -> Iterator[Look]:
    yield Look("websockets", "quiet", _stays, (echoes, stays), 1.0)
    yield Look("websockets", "a message and 1000 at once", _says_and_closes, (echoes, returns, notes("left")))
    yield Look("websockets", "an empty message", NORMAL["1000"], (echoes_the_empty,), say=("", "again"))
    for what, act in (NORMAL | OTHER).items():
        yield Look("websockets", what, act, (echoes, returns, notes("left" if what in NORMAL else "lost")))
    for what, act in WORDLESS.items():
        judges = (returns, notes("left" if what in NORMAL else "lost"))
        yield Look("websockets", f"{what} without a word", act, judges, say=())


def _unclean_exit() -> Iterator[Look]:
    for on in ("aiohttp", "aiohttp-cancel"):
        for what, act in VANISHES.items():
            yield Look(on, what, act, (echoes, passes, closes(1)))
        yield Look(on, "reset without a word", _waits(_reset), (passes, closes(1)), say=())
    yield Look("aiohttp", "many messages and a reset", _burst, (closes(1),))


def _heartbeat() -> Iterator[Look]:
    for on in ("aiohttp", "aiohttp-cancel"):
        judges = (ends_within(2.2), returns if on == "aiohttp" else _ends_well, quiet, closes(1))
        yield Look(on, "silence", _silence, (echoes, *judges), 3.0)
        yield Look(on, "quiet", _stays, (echoes, stays), 5.2)
        yield Look(on, "silence without a word", _waits(_silence), judges, 3.0, ())


def _limited(seen: Seen) -> Iterator[str]:
    times = [at - seen.began for text, at in seen.notes if text == "interrupted"]
    if seen.noted != ["interrupted", "time is up"]:
        yield f"it notes {seen.noted}"
    elif not seconds(0.9) < times[0] < seconds(1.6):
        yield f"it is interrupted after {times[0]:.1f} s"


def _no_interruption(seen: Seen) -> Iterator[str]:
    if seen.noted and not (seen.cancelled and seen.noted == ["interrupted"]):
        yield f"it notes {seen.noted}"


def _ends_as_cancelled(seen: Seen) -> Iterator[str]:
    if seen.end != "CancelledError":
        yield f"it ends by {seen.end}"


def _closed_at_last(seen: Seen) -> Iterator[str]:
    if not seen.resources or any(it.closed is None or it.closed > (seen.ended or 0) for it in seen.resources):
        yield "a resource is not closed in full before the end"


def _catch_cancelled() -> Iterator[Look]:
    hc = "aiohttp-cancel"
    yield Look(hc, "quiet", _stays, (echoes, _limited, _closed_at_last), 2.0)
    yield Look(hc, "says nothing", _stays, (_limited, _closed_at_last), 2.0, ())
    yield Look(hc, "talks on", _talks_on(0.3, 5), (echoes, _limited, _closed_at_last), 2.0)
    yield Look(hc, "reset", _reset, (echoes, passes, notes("interrupted"), closes(1)))
    yield Look(hc, "fin", _fin, (echoes, passes, notes("interrupted"), closes(1)))
    yield Look(hc, "1000", NORMAL["1000"], (echoes, passes, _no_interruption))
    yield Look("aiohttp", "1000", NORMAL["1000"], (echoes, passes, _no_interruption, closes(1)))
    yield Look("aiohttp", "reset", _reset, (echoes, closes(1), passes))
    yield Look("aiohttp", "many messages and a reset", _burst, (closes(1),))
    for times in (1, 2):
        yield Look(hc, f"{times} cancels", _cancels(times), (echoes, _ends_as_cancelled))
    yield Look("aiohttp", "1000, and a cancel in the cleanup", _closes_and_cancels, (echoes, _ends_as_cancelled))


def _three(*cancels: int) -> Iterator[Look]:
    for on in ("aiohttp", "aiohttp-cancel"):
        for what, act in {"1000": NORMAL["1000"], "reset": _reset}.items():
            yield Look(on, what, act, (echoes, passes, closes(3), in_one_go, leaves_nothing))
        judges = (passes, closes(3), in_one_go, leaves_nothing)
        yield Look(on, "reset without a word", _waits(_reset), judges, say=())
        for times in cancels:
            yield Look(
                on,
                f"{times} cancels",
                _cancels(times),
                (echoes, _ends_as_cancelled, closes(3), in_one_go, leaves_nothing),
            )


# Questions are looked for among all that the client got: it is sent nothing else while it is quiet.
_QUESTION = "still there?"


def _asks(seen: Seen) -> Iterator[str]:
    asked, due = seen.heard.count(_QUESTION), 10 * seconds(3.4)
    if not 0.7 * due <= asked <= due + 2:  # the first may come before `hello`
        yield f"it asks {asked} times"
    if [it for it in seen.heard if it != _QUESTION] != ["hello", "again"]:
        yield f"its client got {[it for it in seen.heard if it != _QUESTION]}"


def _asks_for(time: float) -> Judge:
    def judge(seen: Seen) -> Iterator[str]:
        if abs(seen.heard.count(_QUESTION) - 10 * seconds(time)) > 2 * seconds(time):
            yield f"it asks {seen.heard.count(_QUESTION)} times"

    return judge


def _keeps_up(seen: Seen) -> Iterator[str]:
    if len([it for it in seen.heard if it != _QUESTION]) < 2 + 12 - 3:
        yield f"it falls behind: {len(seen.heard)} messages"


def _asks_nobody(seen: Seen) -> Iterator[str]:
    if _QUESTION in seen.heard[: 2 + 12]:
        yield "it asks a client that talks"


async def _comes_late(stage: Stage) -> None:
    await asyncio.sleep(seconds(0.3))
    await stage.peer.send(text("late"))
    await stage.until(lambda: b"late" in stage.peer.heard, 1)


def _answers_late(seen: Seen) -> Iterator[str]:
    if "late" not in seen.heard:
        yield "what comes late is not answered"


def _receive_timeout() -> Iterator[Look]:
    ws = "websockets"
    yield Look(ws, "quiet", _stays, (stays, _asks), 3.4)
    yield Look(ws, "says nothing", _stays, (stays, _asks_for(1.0)), 1.0, ())
    yield Look(ws, "talks", _talks_on(0.04, 12), (_asks_nobody, _keeps_up), 0.05)
    yield Look(ws, "late", _comes_late, (_answers_late, stays), 0.1)
    for what, act in {"reset": _reset, "fin": _fin, "1000": NORMAL["1000"]}.items():
        yield Look(ws, what, act, (returns,))
        yield Look(ws, f"{what} without a word", act, (returns,), say=())


class _Leaves:
    """A set of members: a live one, a late one and three dead ones; then the client goes."""

    def __init__(self, act: Act) -> None:
        self._act = act
        self.prepare = self._prepare

    async def _prepare(self, stage: Stage) -> None:
        peers = [Peer(stage.server.port, stage.bell) for _ in range(4)]
        stage.seen.more["peers"] = peers
        for peer in peers:
            await peer.connect()
        await wait(stage.bell, lambda: len(stage.seen.more.get("parked", ())) == len(peers), seconds(2))
        parked = stage.seen.more["parked"]
        for peer in peers[1:]:
            peer.reset()
        await asyncio.gather(*(connection.wait_closed() for connection in parked[1:]))
        stage.seen.more |= {"other": parked[0], "members": (members := set(parked))}
        stage.seen.more["arguments"] = (members,)

    async def __call__(self, stage: Stage) -> None:
        members = stage.seen.more["members"]
        stage.seen.more["in"] = stage.connection in members
        late = Peer(stage.server.port, stage.bell)
        stage.seen.more["peers"].append(late)
        await late.connect()
        await stage.until(lambda: len(stage.seen.more["parked"]) == 5, 1)
        members.add(stage.seen.more["parked"][4])
        await stage.peer.say("third")
        await stage.until(lambda: bool(late.heard), 0.3)
        await self._act(stage)
        await stage.until(lambda: False, 2)
        stage.seen.more["heard"] = [[it.decode() for it in peer.heard] for peer in (stage.seen.more["peers"][0], late)]
        stage.seen.more["out"] = stage.connection not in members
        stage.seen.more["gone"] = {stage.seen.more["parked"][0], stage.seen.more["parked"][4]} - members


def _members_hold(seen: Seen) -> Iterator[str]:
    if seen.heard != ["hello", "again", "third"]:
        yield f"its client got {seen.heard}"
    if seen.more.get("heard") != [["hello", "again", "third"], ["third"]]:
        yield f"others got {seen.more.get('heard')}"
    if not seen.more.get("in"):
        yield "it is not a member"
    if not seen.more.get("out"):
        yield "it stays a member"
    if seen.more.get("gone"):
        yield "another member is gone"


def _joins_at_once(seen: Seen) -> Iterator[str]:
    if not seen.more.get("in"):
        yield "it is not a member before it has said anything"


def _members() -> Iterator[Look]:
    for what, act in {"1000": NORMAL["1000"], "reset": _reset, "4000": OTHER["4000"], "fin": _fin}.items():
        yield Look("websockets", what, _Leaves(act), (_members_hold, returns))

    class Silent(_Leaves):
        async def __call__(self, stage: Stage) -> None:
            await stage.until(lambda: stage.connection in stage.seen.more["members"], 0.5)
            stage.seen.more["in"] = stage.connection in stage.seen.more["members"]

    yield Look("websockets", "says nothing", Silent(_stays), (_joins_at_once,), 0.1, ())

    class Wordless(_Leaves):
        async def __call__(self, stage: Stage) -> None:
            await _waits(self._act)(stage)

    yield Look("websockets", "reset without a word", Wordless(_reset), (returns,), say=())


def _job(act: Act) -> Act:
    async def run(stage: Stage) -> None:
        await stage.peer.send(text("30"), text("30"))
        await asyncio.sleep(seconds(0.1))  # they are jobs of 30 s: they have begun, or never will
        stage.seen.struck = asyncio.get_running_loop().time()
        await act(stage)

    return run


def _at_once(*jobs: str) -> Act:
    async def run(stage: Stage) -> None:
        stage.seen.more["sent"] = asyncio.get_running_loop().time()
        await stage.peer.send(*map(text, jobs))
        number = len(stage.peer.heard) + len(jobs)
        await stage.until(lambda: len(stage.peer.heard) >= number, 3)
        stage.seen.more["took"] = asyncio.get_running_loop().time() - stage.seen.more["sent"]

    return run


def _does(number: int, shortest: float) -> Judge:
    def judge(seen: Seen) -> Iterator[str]:
        if seen.heard != ["done"] * number:
            yield f"its client got {seen.heard}, not {number} answers"
        if seen.more.get("took", shortest) < 0.9 * seconds(shortest):
            yield "its jobs are not done"

    return judge


def _busy() -> Iterator[Look]:
    ws = "websockets"
    yield Look(ws, "a job of 2.2 s", _at_once("2.2"), (_does(1, 2.2),), 0.1, ())
    yield Look(ws, "two at once", _at_once("0.3", "0.05"), (_does(2, 0.3),), 0.1, ())
    yield Look(ws, "short ones", _shutdown, (_does(2, 0), returns), 2, ("0.01", "0.1"))
    for what, act in {"shutdown": _shutdown, "1000": NORMAL["1000"]}.items():
        judges = (_does(1, 0), ends_within(1.0), closes(1), returns, leaves_nothing)
        yield Look(ws, f"{what} in a job", _job(act), judges, 2, ("0.01",))
    yield Look(ws, "1000 without a word", NORMAL["1000"], (returns,), say=())
    yield Look(ws, "reset in a job", _job(_reset), (ends_within(1.0), closes(1), leaves_nothing), 2, ("0.01",))


def _ends_well(seen: Seen) -> Iterator[str]:
    if seen.end not in {"", "CancelledError"}:
        yield "it runs on" if seen.end is None else f"it ends by {seen.end}"


def _survives(*stacks: str) -> Iterator[Look]:
    for on in stacks:
        ends = (ends_within(2.2), closes(1), quiet)
        others = {"a message and 1000 at once": _says_and_closes, "bad text": _bad_text, "shutdown": _shutdown}
        for what, act in {**NORMAL, **VANISHES, **others}.items():
            yield Look(on, what, act, (echoes, _ends_well, *ends), 3.0)
        yield Look(on, "burst", _burst, (echoes, _ends_well, *ends), 3.0)
        uncancelled = _ends_well if on == "aiohttp-cancel" else returns
        yield Look(on, "silence", _silence, (echoes, uncancelled, *ends), 3.0)
        yield Look(on, "reset without a word", _waits(_reset), (_ends_well, *ends), 3.0, ())
        for times in (1, 2, 4):
            yield Look(on, f"{times} cancels", _cancels(times), (echoes, _ends_well, *ends))
        yield Look(on, "1000 and a cancel", _closes_and_cancels, (echoes, _ends_well, *ends))
        yield Look(on, "quiet", _stays, (echoes, stays), 5.2)
        yield Look(on, "slow and quiet", _becomes_slow, (echoes, stays), 5.2)


GOALS: Final[dict[str, list[Look]]] = {
    "goodbye": list(_goodbye()),
    "unclean-exit": list(_unclean_exit()),
    "catch-cancelled": list(_catch_cancelled()),
    "recv": list(_recv()),
    "heartbeat": list(_heartbeat()),
    "receive-timeout": list(_receive_timeout()),
    "one-cancel": list(_three(1)),
    "second-cancel": list(_three(2, 4, 25)),
    "members": list(_members()),
    "busy": list(_busy()),
    "survive-aiohttp": list(_survives("aiohttp", "aiohttp-cancel")),
    "survive-websockets": list(_survives("websockets")),
}
