"""What exercises stage beside the faults: a client that talks on, a fault during a job, many messages at once.

They are faults for ``play``, and belong to no family, so that neither ``labkit.FAULTS`` nor a matrix has them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from labkit.events import (
    CleanupClosing,
    ClientEnded,
    ClientError,
    ClientRecv,
    Event,
    HandlerCancelled,
    HandlerEnd,
    HandlerRecv,
    LoopBlocked,
    LoopUnblocked,
    WireFrame,
)
from labkit.exercises.exercise import Trial
from labkit.faults import Close, Fault
from labkit.faults.fault import Scene, find_fault
from labkit.support.clock import scaled

__all__ = [
    "FAILED",
    "POLITE",
    "VANISHED",
    "AllAtOnce",
    "Burst",
    "CancelledCleanup",
    "CancelledClosings",
    "InTheMiddle",
    "LateCancel",
    "SlowAndQuiet",
    "TalksOn",
    "WhenAnswered",
    "empty",
    "wordless",
]

#: The family of what is staged here.
_FAMILY = "exercise"

#: How long a handler that receives while it is busy may take to receive one more message, in seconds.
_SECOND = 0.1

#: The ways to say goodbye, and to vanish.
POLITE = (Trial("close"), Trial("going-away"), Trial("no-code"))
VANISHED = (Trial("reset"), Trial("fin"), Trial("truncated-frame"))

#: A Close frame is no goodbye if its code reports a failure: each code that is assigned, and some of a program's own.
FAILED = tuple(Trial(Close(code=code)) for code in (1002, 1003, *range(1007, 1015), 3000, 4000, 4999))


def empty(*trials: Trial) -> tuple[Trial, ...]:
    """Return the trials with a client whose first message is empty, which is no end and wants its answer."""
    return tuple(replace(trial, messages=("", *trial.messages[1:])) for trial in trials)


def wordless(*trials: Trial) -> tuple[Trial, ...]:
    """Return the trials with a client that has said nothing: a handler that waits for a first word is not through."""
    return tuple(replace(trial, messages=()) for trial in trials)


@dataclass(frozen=True)
class TalksOn(Fault, name="talks-on", family=_FAMILY):
    """The client goes on talking: it sends its messages again, one after the other, without waiting for answers.

    Args:
        every: seconds from one message to the next.
        times: how many messages; fewer, if the connection ends.
    """

    happened = "the client began to talk on"
    ends = "nothing"
    demands = "answer"
    needs = "client"

    every: float = 0.3
    times: int = 8

    async def strike(self, scene: Scene) -> None:
        """Send a message now and then."""
        for number in range(self.times):
            if await scene.timeline.until(_is_over, self.every) is not None:
                return
            scene.client.send(scene.messages[number % len(scene.messages)])


@dataclass(frozen=True)
class WhenAnswered(Fault, name="when-answered", family=_FAMILY):
    """A fault strikes when the client has an answer to each of its messages, in whatever way the handler works on them.

    Args:
        fault: the name of the fault.
    """

    happened = "it struck when all was answered"
    ends = "connection"
    demands = "end"
    needs = "server"

    fault: str = "shutdown"

    async def due(self, scene: Scene) -> bool:
        """Wait for the answers."""
        await _all_answered(scene)
        return True

    async def strike(self, scene: Scene) -> None:
        """Let the fault strike."""
        await find_fault(self.fault).strike(scene)


@dataclass(frozen=True)
class InTheMiddle(WhenAnswered, name="in-the-middle", family=_FAMILY):
    """A fault strikes when the handler has received one more message, and is still busy with it.

    The client sends it twice. A handler that takes one after the other has not received the second by then.

    Args:
        fault: the name of the fault.
        message: the message.
    """

    happened = "it struck in the middle of a job"

    message: str = "30"

    async def due(self, scene: Scene) -> bool:
        """Wait for the answers to all before it, send the message, and wait until the handler has it; and again."""
        await super().due(scene)
        for limit in (scene.patience, scaled(_SECOND)):
            start = len(scene.timeline)
            scene.client.send(self.message)
            await scene.timeline.until(lambda event: isinstance(event, HandlerRecv), limit, start=start)
        return True


@dataclass(frozen=True)
class AllAtOnce(Fault, name="all-at-once", family=_FAMILY):
    """The client sends messages at once, and waits for as many answers.

    Args:
        messages: the messages.
    """

    happened = "the client sent several messages at once"
    ends = "nothing"
    demands = "answer"
    needs = "own client"

    messages: tuple[str, ...] = ()

    async def due(self, scene: Scene) -> bool:
        """Wait for the answers to all before them."""
        await _all_answered(scene)
        return True

    async def strike(self, scene: Scene) -> None:
        """Send them in one write."""
        start, received = len(scene.timeline), 0
        with scene.own_client.in_one_write():
            for message in self.messages:
                scene.client.send(message)

        def is_last(event: Event) -> bool:
            nonlocal received
            received += isinstance(event, ClientRecv)
            return received == len(self.messages) or _is_over(event)

        await scene.timeline.until(is_last, scene.patience, start=start)


@dataclass(frozen=True)
class Burst(Fault, name="burst-then-reset", family=_FAMILY):
    """The client sends many messages at once and vanishes, while the server's loop is busy with something else.

    On the wire: many messages, and RST. On Linux the server's system still has the messages when it has learned of the
    RST. So the handler receives them, and cannot answer.

    Args:
        number: how many messages.
        busy: for how long the server's loop is busy, in seconds, multiplied by ``LABKIT_TIME_SCALE``.
    """

    happened = "the client sent many messages and vanished"
    ends = "connection"
    demands = "end"
    needs = "own loop"

    number: int = 200
    busy: float = 0.3

    async def strike(self, scene: Scene) -> None:
        """Block the server's loop; meanwhile send the messages, and reset the connection."""
        start, passed = len(scene.timeline), 0
        scene.server.block(scaled(self.busy))
        await scene.timeline.until(lambda event: isinstance(event, LoopBlocked), scene.patience, start=start)
        with scene.own_client.in_one_write():
            for number in range(self.number):
                scene.client.send(scene.messages[number % len(scene.messages)])

        def is_last(event: Event) -> bool:
            nonlocal passed
            passed += isinstance(event, WireFrame) and event.source == "client"
            return passed == self.number or _is_over(event)

        await scene.timeline.until(is_last, scene.patience, start=start)
        scene.wire.reset()
        await scene.timeline.until(lambda event: isinstance(event, LoopUnblocked), start=start)


@dataclass(frozen=True)
class SlowAndQuiet(Fault, name="slow-and-quiet", family=_FAMILY):
    """The network becomes slow, and the client says nothing any more.

    Args:
        delay: the delay in seconds from one end to the other. ``LABKIT_TIME_SCALE`` does not change it: nor does it
            change a handler's own limit for a pong.
    """

    happened = "the network became slow, and the client quiet"
    ends = "nothing"
    demands = "stay"

    delay: float = 0.02

    async def strike(self, scene: Scene) -> None:
        """Slow the connection down."""
        scene.wire.slow(self.delay, None)


@dataclass(frozen=True)
class CancelledCleanup(Fault, name="cancelled-cleanup", family=_FAMILY):
    """The client says goodbye, and the handler is cancelled in the middle of the cleanup that follows.

    No ``labkit.resource`` is closed before that, so that a slow machine changes nothing.
    """

    happened = "the client said goodbye"
    ends = "connection"
    demands = "end"
    needs = "server"

    async def strike(self, scene: Scene) -> None:
        """Close the connection; when the handler begins to close something, cancel it."""
        start = len(scene.timeline)
        with scene.timeline.hold_closings():
            await Close().strike(scene)
            await scene.timeline.until(
                lambda event: isinstance(event, CleanupClosing | HandlerEnd), scene.patience, start=start
            )
            await scene.server.cancel()


@dataclass(frozen=True)
class CancelledClosings(Fault, name="cancelled-closings", family=_FAMILY):
    """The client says goodbye, and the handler is cancelled whenever it begins to close something.

    Args:
        times: how many cancels at most.
    """

    happened = "the client said goodbye"
    ends = "connection"
    demands = "end"
    needs = "server"

    times: int = 10

    async def strike(self, scene: Scene) -> None:
        """Close the connection; cancel the handler in each of its closings."""
        start = len(scene.timeline)
        await Close().strike(scene)
        for _ in range(self.times):
            event = await scene.timeline.until(
                lambda event: isinstance(event, CleanupClosing | HandlerEnd), scene.patience, start=start
            )
            if not isinstance(event, CleanupClosing):
                return
            start = len(scene.timeline)
            await scene.server.cancel()


@dataclass(frozen=True)
class LateCancel(Fault, name="late-cancel", family=_FAMILY):
    """The client says goodbye, and the handler is cancelled when it closes the last of some resources.

    If something else has cancelled it by then, that is all: it is cancelled once.

    Args:
        resources: how many resources it closes.
    """

    happened = "the client said goodbye"
    ends = "connection"
    demands = "end"
    needs = "server"

    resources: int = 1

    async def strike(self, scene: Scene) -> None:
        """Close the connection; when the last closing begins, cancel the handler."""
        start, begun = len(scene.timeline), 0
        await Close().strike(scene)

        def is_last(event: Event) -> bool:
            nonlocal begun
            begun += isinstance(event, CleanupClosing)
            return begun == self.resources or isinstance(event, HandlerEnd | HandlerCancelled)

        if isinstance(await scene.timeline.until(is_last, scene.patience, start=start), CleanupClosing):
            await scene.server.cancel()


async def _all_answered(scene: Scene) -> None:
    """Wait until the client has as many answers as it has sent messages."""
    expected = len(scene.messages)

    def is_last(event: Event) -> bool:
        nonlocal expected
        expected -= isinstance(event, ClientRecv)
        return expected <= 0 or _is_over(event)

    await scene.timeline.until(is_last, scene.patience)


def _is_over(event: Event) -> bool:
    return isinstance(event, ClientEnded | ClientError | HandlerEnd)
