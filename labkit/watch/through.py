"""Finds out when a conversation is through: by its causes, as far as they can be seen.

A message is through when the library has got it, everything that the handler has sent has reached the client, and no
task of the handler may yet speak:

- A task inside ``recv()`` or ``receive()`` waits for the next message. One that waits for a queue, a lock or another
  task speaks only if somebody tells it to.
- The task that has read the message, and those that were started since then, work on it: until they end, or wait in
  one of these ways.
- Any other task that sleeps, or waits for something outside the lab, was there before. If it goes on, it may work on
  the message too, until it is back where it was. If it does not, it may still look whether there is something to send:
  it is waited for until it comes round once, but only if the message has had no answer.
- If no task waits for a message, the handler may not read at all: that is clear when each task has come round once.
- A thread that was started since the handler has read the message may have the answer. So may one that waited to be
  told to go on, by a queue or an event, and has been told since then, until it waits again.

What cannot be known, such as the end of a stream, is waited for until the patience is over, and then told as unknown.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Protocol
from weakref import WeakKeyDictionary

from labkit.remains.threads import Work, works_of
from labkit.support.clock import timeout
from labkit.timeline import Timeline
from labkit.watch.call import Call
from labkit.watch.rest import Place, Standing, may_run, tasks_of, timers_of
from labkit.watch.tally import Tally

__all__ = ["Exchanges", "Held", "Through"]

#: Seconds between two looks at threads: nothing tells when a thread has done its work.
_LOOK: Final = 0.005

#: Turns of the loop in which nothing may change until it counts: what a task has ended with goes to the task that waits
#: for it in the next turn, and that one goes on a turn later.
_TURNS: Final = 2

_WAITS: Final = "the handler waits for the next message"

_Task = asyncio.Task[Any]
_Awaited = asyncio.Future[Any] | None


class Held(Protocol):
    """A conversation of which the wire lets some frames pass and holds the others.

    Attributes:
        has_come: whether they have passed.
        delivered: how many messages of the client have passed.
        withheld: how many messages of the handler wait in the wire, and will not go on.
    """

    @property
    def has_come(self) -> bool: ...  # noqa: D102
    @property
    def delivered(self) -> int: ...  # noqa: D102
    @property
    def withheld(self) -> int: ...  # noqa: D102


class Through(NamedTuple):
    """That a conversation is through, or that nobody knows it, since the patience is over.

    Attributes:
        why: how it is known, or how far it had come, as a clause.
        known: whether it is known.
        over: whether the connection is over.
    """

    why: str
    known: bool = True
    over: bool = False


class _NotYet(NamedTuple):
    """That a conversation is not through.

    Attributes:
        why: how far it has come, as a clause.
        tasks: the tasks that may yet speak, with what they wait for.
        runs: whether a task can run now.
        running: the call of the handler, if it is the handler itself that can run now: it tells when it waits.
        polls: seconds after which to look again, though nothing tells that something has changed.
    """

    why: str
    tasks: Sequence[Standing] = ()
    runs: bool = False
    running: Call | None = None
    polls: float | None = None


@dataclass
class _Before:
    """How the handler's tasks stood when it read the message; until then, how they stood when the library got it.

    Attributes:
        read: whether the handler has read it.
        reader: the task that has.
        tasks: the tasks, and what each waited for.
        seen: what each task waited for when it was first seen at a place.
        sent: how many messages the library had sent.
        works: what threads did for the handler.
        resting: those of them whose threads waited to be told to go on.
        timers: the timers that the handler had set.
    """

    read: bool = False
    reader: _Task | None = None
    tasks: dict[_Task, _Awaited] = field(default_factory=dict)
    seen: dict[tuple[_Task, Place], _Awaited] = field(default_factory=dict)
    sent: int = 0
    works: set[Work] = field(default_factory=set)
    resting: set[Work] = field(default_factory=set)
    timers: Collection[asyncio.TimerHandle] = ()


class Exchanges:
    """Watches what one client and its handler exchange; in the server's loop.

    Args:
        timeline: the events of the client's connection.
        calls: the calls of the handler that run, for all connections.
        served: returns the numbers of the client's connection on the server's side.
    """

    def __init__(self, timeline: Timeline, calls: Sequence[Call], served: Callable[[], Collection[int]]) -> None:
        self._timeline = timeline
        self._calls = calls
        self._served = served
        self._tally = Tally(timeline)
        self._before = _Before()
        self._arrived = self._worked = False
        self._given_up: WeakKeyDictionary[_Task, set[Place]] = WeakKeyDictionary()

    async def through(self, sent: int, patience: float, held: Held | None = None) -> Through:
        """Wait until all is through that the client has sent.

        Args:
            sent: how many messages the client has sent, or is about to send; 0, if the wire holds some of them.
            patience: the longest wait, in seconds.
            held: what the wire holds of the conversation. Until it does, this waits without a limit; then all is
                through that has passed.

        Returns:
            How it is known; or that it is unknown, when the patience is over.
        """
        not_yet, quiet = _NotYet("the handler had not started"), 0
        with self._timeline.changes() as changed, self._hooks(changed.set) as hook:
            self._arrived = self._worked = False
            self._remember()
            while held is not None and not held.has_come:
                changed.clear()
                await changed.wait()
            deadline = asyncio.get_running_loop().time() + patience
            try:
                async with timeout(patience):
                    while True:
                        changed.clear()
                        found = self._look(sent if held is None else held.delivered, deadline, held)
                        if isinstance(found, Through):
                            if found.over or quiet == _TURNS:
                                return found
                            quiet += 1
                            await asyncio.sleep(0)
                            continue
                        not_yet, quiet = found, 0
                        if not_yet.runs:
                            await asyncio.sleep(0)
                        else:
                            hook(not_yet)
                            await changed.wait()
            except TimeoutError:
                for each in not_yet.tasks:
                    self._given_up.setdefault(each.task, set()).add(each.place)
                return Through(f"after {patience:g} s {not_yet.why}", known=False)
            finally:
                self._before = _Before()  # a task that nobody else holds is collected, and asyncio then complains

    @contextmanager
    def _hooks(self, changed: Callable[[], None]) -> Iterator[Callable[[_NotYet], None]]:
        """Have ``changed`` called when the library gets something, and when what a task waits for is done."""
        loop, call, hooked = asyncio.get_running_loop(), self._find_call(), set[asyncio.Future[Any]]()

        def done(_: Any) -> None:
            changed()

        def hook(found: _NotYet) -> None:
            for each in found.tasks:
                if each.awaited is not None and each.awaited not in hooked:
                    hooked.add(each.awaited)
                    each.awaited.add_done_callback(done)
            if found.running is not None:
                found.running.when_it_stops(changed)
            if found.polls is not None:
                loop.call_later(found.polls, changed)

        stop = None if call is None else call.listen(lambda: self._remember(read=True), changed)
        try:
            yield hook
        finally:
            if stop is not None:
                stop()
            for future in hooked:
                future.remove_done_callback(done)

    def _find_call(self) -> Call | None:
        served = self._served()
        return next((call for call in self._calls if call.number in served), None)

    def _remember(self, *, read: bool = False) -> None:
        """Note how the handler's tasks stand now."""
        call = self._find_call()
        if call is None:
            return
        standings, works = tasks_of(call), works_of(call.here)
        self._before = _Before(
            read,
            asyncio.current_task() if read else None,
            {each.task: each.awaited for each in standings},
            {(each.task, each.place): each.awaited for each in standings if each.awaited is not None},
            call.messages[1],
            works,
            {work for work in works if work.rests},
            timers_of(call),
        )

    def _look(self, sent: int, deadline: float, held: Held | None) -> Through | _NotYet:
        self._tally.update()
        call = self._find_call()
        if self._tally.over is not None:
            return Through(self._tally.over, over=True)
        if call is None:
            return _NotYet("the handler had not started")
        got, given = call.messages
        read = self._tally.read >= sent
        if not read and got < sent and call.reading:
            return _NotYet("the message had not reached the library")
        if not read and not self._arrived:
            self._arrived = True
            self._remember()
        if self._tally.received + (0 if held is None else held.withheld) < given:
            return _NotYet("what the handler had sent had not reached the client")
        return self._look_at_tasks(call, sent, deadline, read=read)

    def _look_at_tasks(self, call: Call, sent: int, deadline: float, *, read: bool) -> Through | _NotYet:
        if may_run(call.task):
            return _NotYet("the handler was running", running=call)  # before the look at all, which takes longer
        standings = tasks_of(call)
        if any(each.awaited is None for each in standings):
            return _NotYet("the handler was running", runs=True)
        before, answered = self._before, call.messages[1] > self._before.sent
        receiving = any(each.waits_for == "message" for each in standings)
        if receiving and not read:
            return _NotYet("the handler had not read the message")
        if receiving and not sent:
            return Through(_WAITS)
        owes = sent > 0 and not answered
        asks = owes or not receiving
        going_on = [each for each in standings if not each.rests or (owes and each.told and each.due is not None)]
        working = [each for each in going_on if self._may_speak(each, deadline, asks=asks)]
        given_up = [each for each in working if self._is_given_up(each) or each.is_due_after(deadline)]
        if waits := [each for each in working if each not in given_up]:
            return _NotYet(waits[0].where, waits)
        if given_up:
            return Through(given_up[0].where, known=False)
        if asks and self._has_work(call):
            self._worked = True
            return _NotYet("a thread was at work", polls=_LOOK)
        if self._worked:
            # What it has given to the loop on its way, such as a coroutine to run, begins in the loop's next turn.
            self._worked = False
            return _NotYet("a thread had just done its work", runs=True)
        timers = timers_of(call) if asks else {}
        if due := [at for each, at in timers.items() if each not in before.timers and at < deadline]:
            return _NotYet("a timer was set", polls=min(due) - asyncio.get_running_loop().time())
        return Through(_WAITS if receiving else "the handler waits for no message")

    def _has_work(self, call: Call) -> bool:
        """Whether a thread of the handler may have the answer."""
        works, before = works_of(call.here), self._before
        return bool(works - before.works) or any(not work.rests for work in works & before.resting)

    def _is_given_up(self, standing: Standing) -> bool:
        """Whether a task was already there when the patience for an earlier message was over."""
        return standing.place in self._given_up.get(standing.task, ())

    def _may_speak(self, standing: Standing, deadline: float, *, asks: bool) -> bool:
        """Whether a task that goes on by itself may yet speak.

        Args:
            standing: how it stands.
            deadline: the end of the patience, in the loop's time.
            asks: whether a task that was there before, and has not gone on since then, may look for something to send.
        """
        before, task = self._before, standing.task
        if before.read and (task is before.reader or task not in before.tasks):
            return True  # it works on the message
        came_round = before.seen.setdefault((task, standing.place), standing.awaited) is not standing.awaited
        if came_round or standing.is_due_after(deadline):
            return False
        return asks or before.tasks.get(task) is not standing.awaited
