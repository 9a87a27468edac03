"""The moment between two frames of a conversation."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import takewhile
from typing import Final

from labkit.events import WireFault, WireFrame
from labkit.experiment.path import Path
from labkit.timeline import Events
from labkit.watch.moments import Moment
from labkit.wire import Hold, Holds

__all__ = ["AfterFrames", "Kind", "frames_of", "moments_between"]

#: What a frame has in common with the same frame of another play: who sent it, its opcode, and whether it is the last
#: one of its message.
Kind = tuple[str, str, bool]

#: The number of the client that a fault strikes.
_FIRST: Final = 1

_CONTROL: Final = frozenset({"CLOSE", "PING", "PONG"})

#: In so many turns of the loop a talk that has got a message says what it says at once.
_TURNS: Final = 5


class AfterFrames(Moment):
    """When some frames have passed the wire, and the handler has done all that it can do with them.

    The wire keeps the next ones. Nobody holds the handler: it waits, and only the fault or a timer wakes it.

    Args:
        count: how many frames, in both directions together.
        path: the path of the client.
    """

    def __init__(self, count: int, path: Path) -> None:
        super().__init__(f"after frame {count}" if count else "before the first frame", lambda: path.served)
        self._count = count
        self._path = path
        self._all: Holds | None = None

    @property
    def _own(self) -> Hold | None:
        return None if self._all is None else self._path.find_hold(self._all)

    @property
    def has_come(self) -> bool:
        """Whether these frames have passed."""
        return (hold := self._own) is not None and hold.full

    async def wait(self) -> None:
        """Hold the client's connection, which is to be made after this is begun, and wait for the frames."""
        self._all = self._path.hold_after(self._count)
        # Any event may tell it, such as one that tells whose a link of the wire is.
        await self._path.client.timeline.until(lambda _: self.has_come)

    @property
    def delivered(self) -> int:
        """How many messages of the client have passed."""
        return 0 if (hold := self._own) is None else hold.delivered

    @property
    def withheld(self) -> int:
        """How many messages of the handler wait in the wire."""
        return 0 if (hold := self._own) is None else hold.withheld

    async def rest(self, patience: float) -> None:
        """Wait until they have passed, and the handler has done all that it can do with them.

        It is to be begun before the client says anything, since it looks who reads the messages.

        Args:
            patience: the longest wait for the handler, in seconds.
        """
        through = await self._path.wait_until_rest(self, patience)
        self.doubt = None if through.known else through.why
        for _ in range(_TURNS):
            await asyncio.sleep(0)

    def struck(self) -> None:
        """Let the wire pass on what it has kept: to the fault, it is on its way."""
        self.release()

    def release(self) -> None:
        """Let the wire pass on what it has kept."""
        if self._all is not None:
            self._all.release()

    @property
    def missed(self) -> str:
        """How many frames have passed."""
        passed = 0 if (hold := self._own) is None else hold.passed
        return f"{passed} frame{'s' * (passed != 1)} had passed, not {self._count}"


def frames_of(events: Events) -> list[Kind]:
    """List the frames of the conversation that the fault strikes, up to it; empty if it does not strike."""
    fault = events.first(WireFault)
    before = [] if fault is None else takewhile(lambda event: event is not fault, events)
    return [
        (event.source, event.opcode, event.fin)
        for event in before
        if isinstance(event, WireFrame) and event.connection == _FIRST
    ]


def moments_between(frames: Sequence[Kind], *, talks: bool) -> list[int]:
    """Find the moments between frames at which something is as no await finds it.

    What the handler can do is decided by what has come from its client. So there is one moment after each message of
    the client's, at which all that the handler has sent since is on its way; of several answers, and of several frames
    of an answer, none has arrived. Where nothing is on its way, the handler has come to an await, and that is swept.

    Args:
        frames: the frames of the conversation.
        talks: whether the client has a talk, which may say something before the handler waits for it.

    Returns:
        How many frames have passed at each of these moments.
    """
    found = []
    for passed, (before, (source, _, _)) in enumerate(zip([None, *frames], frames, strict=False)):
        speaks = False  # whether the client may, before the handler waits for it
        if before is not None:
            last, opcode, whole = before
            if last == "server" or opcode in _CONTROL:
                continue
            speaks = talks or not whole
        if source == "server" or speaks:
            found.append(passed)
    return found
