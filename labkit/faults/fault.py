"""The base class of all faults, and their registry."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import re
import signal
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Literal, Protocol, get_args, runtime_checkable

from labkit.errors import BadValue
from labkit.support.checks import check_text, find, is_whole
from labkit.support.wrapping import wrap
from labkit.timeline import Timeline
from labkit.wire import Breaker

__all__ = [
    "Demand",
    "Direction",
    "Ends",
    "Fault",
    "Moment",
    "Need",
    "OwnPeer",
    "Peer",
    "Scene",
    "Served",
    "check_close",
    "find_fault",
    "registry",
    "source_of",
]

#: When a fault strikes: before the client's handshake; or when the conversation is through; or then, but before a
#: handler that has sent something closes the connection.
Moment = Literal["handshake", "talk", "closing"]

#: What a fault ends.
Ends = Literal["connection", "handler", "handshake", "server", "nothing"]

#: What a handler has to do to survive a fault.
Demand = Literal["end", "end or raise", "end or stay", "answer", "stay", "nothing"]

#: What a fault needs in order to be staged.
Need = Literal["wire", "client", "own client", "own process", "server", "own loop"]

#: The direction of the traffic that a fault acts on.
Direction = Literal["both", "to-server", "to-client"]

#: The sender of the bytes that travel in each direction.
_SOURCES: Final[dict[str, Literal["both", "client", "server"]]] = {
    "both": "both",
    "to-server": "client",
    "to-client": "server",
}

#: Where a part of a fault's docstring begins, within a paragraph.
_PARTS: Final = re.compile(r"\n(?=On the wire: |In life: |Look for: |    \w+: )")

#: The class of each fault, by the fault's name, in the order of definition.
registry: dict[str, type[Fault]] = {}


class Peer(Protocol):
    """The methods of a client that a fault may call."""

    def close(self, code: int | None = 1000, reason: str = "") -> None:
        """Send a Close frame."""

    def send(self, message: str | bytes) -> None:
        """Send a message."""

    async def signal(self, number: int) -> None:
        """Send a signal to the client's process; only for a fault whose ``needs`` is ``"own process"``."""


@runtime_checkable
class OwnPeer(Peer, Protocol):
    """The further methods of the lab's own client, which a library's client does not have."""

    def in_one_write(self) -> AbstractContextManager[None]:
        """Collect the frames that are sent inside the ``with`` block, and write all of them at once at its end."""

    def close_socket(self) -> None:
        """Close the socket as soon as all data are sent, without waiting for the server."""


class Served(Protocol):
    """The methods of a server that a fault may call."""

    def shut_down(self) -> None:
        """Begin the library's own shutdown."""

    async def cancel(self) -> None:
        """Cancel the handlers' tasks, and wait until each handler either awaits something again or has ended."""

    async def expire(self) -> None:
        """Let an ``asyncio.timeout`` around each handler expire, and wait as after ``cancel``."""

    def throw(self, exception: Exception) -> None:
        """Raise an exception in the handlers, at the ``await`` where each of them stands."""

    def narrow(self) -> None:
        """Give each connection a small send buffer in the system, so that few unsent bytes fill it."""

    def block(self, seconds: float) -> None:
        """Block the event loop in which the server runs."""


@dataclass(frozen=True)
class Scene:
    """The parts of an experiment on which a fault acts.

    Attributes:
        wire: the relay between the client and the server. In an experiment with several clients, it acts on the
            connection of the first alone.
        client: the client; of several, the first.
        server: the server. Of the handlers, it acts on those of this client alone.
        timeline: the timeline of the experiment; of the events of connections, it has those of this client's.
        patience: the longest time in seconds that a fault may wait for an event; ``LABKIT_TIME_SCALE`` is already
            applied.
        messages: the messages that the client has sent. Some faults make the client send them once more.
        begin: starts a task that may go on until the end of the experiment, which then cancels it.
    """

    wire: Breaker
    client: Peer
    server: Served
    timeline: Timeline
    patience: float
    messages: Sequence[str | bytes] = ()
    begin: Callable[[Coroutine[Any, Any, Any]], asyncio.Task[Any]] = asyncio.create_task

    @property
    def own_client(self) -> OwnPeer:
        """The client, as a fault sees it whose ``needs`` is ``"own client"``."""
        assert isinstance(self.client, OwnPeer)
        return self.client


class Fault(ABC):
    """A named way for a connection to end or misbehave; its fields are its knobs.

    A subclass is a frozen dataclass with its name and family as class arguments:
    ``class Reset(Fault, name="reset", family="transport")``. Its docstring says what travels on the wire, what causes
    the fault in real life, and what to look for. Its class holds everything that the lab knows about the fault. Each
    class has to set ``happened``, ``ends`` and ``demands``; the other attributes have a default that fits most faults.

    Attributes:
        name: the name that ``play`` accepts.
        family: the family to which the fault belongs.
        happened: what happened, as the handler's author would say it; a clause such as ``"the client vanished"``.
        ends: what the fault ends. ``"connection"`` also holds if the library may still be able to use the connection.
            ``"nothing"`` also holds if TCP stays up but carries nothing any more.
        demands: what a handler has to do to survive the fault; the capstone checks it. ``"end"``: the handler ends in
            time, cleans up, and raises no exception. ``"end or raise"``: it ends in time and cleans up; it may raise
            the fault's own exception. ``"end or stay"``: it ends if the connection was cut, and keeps its client if
            not. ``"answer"``: it answers everything that the client sends afterwards, at any speed. ``"stay"``: it
            keeps its client. ``"nothing"``: it never starts.
        needs: what the fault needs in order to be staged. ``"wire"``: only the wire; the client may go on sending.
            ``"client"``: any client. ``"own client"``: the lab's own client. ``"own process"``: a client in a separate
            process, to which the fault sends a signal. ``"server"``: the server. ``"own loop"``: a server in a
            separate thread and event loop, which the fault blocks.
        instead: what a library's client does instead, if the fault needs the lab's own client.
        moment: when the fault strikes.
        on_frames: whether the wire makes frames for it, or waits for some, which TLS would hide from it.
        fills_buffers: whether a handler can notice the fault only after the buffers towards the client are full.
    """

    name: ClassVar[str]
    family: ClassVar[str]
    happened: ClassVar[str]
    ends: ClassVar[Ends]
    demands: ClassVar[Demand]
    needs: ClassVar[Need] = "wire"
    instead: ClassVar[str] = "would not do it"
    moment: ClassVar[Moment] = "talk"
    on_frames: ClassVar[bool] = False
    fills_buffers: ClassVar[bool] = False

    def __init_subclass__(cls, *, name: str, family: str, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        cls.name = name
        cls.family = family
        if not isinstance(getattr(cls, "happened", None), str):
            raise TypeError(f"the fault {name!r} has to say what happened, as in: happened = 'the client vanished'")
        for attribute, kind in {"ends": Ends, "demands": Demand, "needs": Need, "moment": Moment}.items():
            words = get_args(kind)
            if getattr(cls, attribute, None) not in words:
                raise TypeError(f"the fault {name!r} has to say {attribute} = {' or '.join(map(repr, words))}")
        registry[name] = cls

    def impossible(self, client: str) -> str | None:
        """Say why this fault cannot be staged. Most faults can always be staged.

        Args:
            client: the client's name in ``labkit.CLIENTS``.

        Returns:
            Why it cannot be staged with this client on this platform, or None if it can.
        """
        if self.needs == "own client" and client != "labkit":
            return f"the client of {client} {self.instead}; leave it to the lab's own"
        if self.needs == "own process" and not hasattr(signal, "SIGSTOP"):
            return "this platform has no SIGSTOP, nor the other signals of POSIX"
        return None

    def check_plain(self, url: str) -> None:
        """Refuse a server with TLS, if the fault needs frames that the wire can see.

        Args:
            url: the server's URL.

        Raises:
            BadValue: it is such a fault, and such a server.
        """
        if self.on_frames and url.startswith(("wss:", "https:")):
            raise BadValue(f"{self} acts on frames, which TLS hides from the wire; play it without TLS")

    @property
    def strikes_all(self) -> bool:
        """Whether it strikes the server with all its connections, and not a single connection."""
        return self.ends == "server" or self.needs == "own loop"

    async def due(self, scene: Scene) -> bool:  # noqa: ARG002 - for the faults that wait for something
        """Wait for the condition under which the fault strikes. Most faults have none.

        Args:
            scene: the parts of the experiment.

        Returns:
            Whether the fault strikes. If it does not, the experiment has no fault.
        """
        return True

    @abstractmethod
    async def strike(self, scene: Scene) -> None:
        """Carry out the fault. The experiment records a ``fault`` event just before.

        Args:
            scene: the parts of the experiment.
        """

    def knobs(self) -> dict[str, Any]:
        """Return the knobs.

        Returns:
            The value of each knob, by its name.
        """
        assert dataclasses.is_dataclass(self)
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def changed(self) -> dict[str, Any]:
        """Return the knobs that are not as they are by default."""
        assert dataclasses.is_dataclass(self)
        default = {field.name: field.default for field in dataclasses.fields(self)}
        return {name: value for name, value in self.knobs().items() if value != default[name]}

    def __str__(self) -> str:
        changed = [f"{name}={value!r}" for name, value in self.changed().items()]
        return f"{self.name}({', '.join(changed)})" if changed else self.name

    def text(self, width: int = 100) -> str:
        """Tell what the fault is, what travels on the wire, what causes it in real life, and what to look for.

        Args:
            width: the longest line, in characters.

        Returns:
            The lines, without a newline at the end.
        """
        out = wrap(f"{self}, of the family {self.family}", width)
        says = re.sub('``("[^"`]*")``', r"\1", inspect.getdoc(self) or "").replace("``", "`")
        for paragraph in says.split("\n\n"):
            out.append("")
            for part in _PARTS.split(paragraph):
                indent = " " * (len(part) - len(part.lstrip()))
                out += wrap(" ".join(part.split()), width, indent, indent * 2)
        return "\n".join(out)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:  # noqa: ARG002
        # A cell that evaluates to a fault displays its description. `_repr_pretty_` would not do: IPython prefers the
        # `__repr__` that each dataclass defines.
        return {"text/plain": self.text()}


def find_fault(fault: str | Fault) -> Fault:
    """Find a fault.

    Args:
        fault: the name of a fault, or its class, for the fault with its default knobs; or a fault itself.

    Returns:
        The fault.

    Raises:
        UnknownName: no fault has this name.
    """
    if isinstance(fault, Fault):
        return fault
    if isinstance(fault, type) and issubclass(fault, Fault) and not inspect.isabstract(fault):
        return fault()
    return find("fault", fault, registry)()


#: Codes that RFC 6455 (section 7.4.1) reserves. An endpoint reports them to its application; no frame carries them.
_NEVER_SENT = {1005: "no code was in the Close frame", 1006: "there was no Close frame", 1015: "TLS failed"}


def check_close(code: int, reason: str) -> None:
    """Check that a Close frame may carry a code and a reason.

    Sources: RFC 6455, sections 5.5 and 7.4, and the IANA registry of close codes.

    Args:
        code: the close code.
        reason: the reason.

    Raises:
        BadValue: the code may not be sent, or the reason is not text, or it is longer than 123 bytes.
    """
    if is_whole(code) and code in _NEVER_SENT:
        raise BadValue(f"code {code} is never on the wire: it is how an endpoint reports that {_NEVER_SENT[code]}")
    if not is_whole(code) or not ((1000 <= code <= 1014 and code != 1004) or 3000 <= code <= 4999):
        raise BadValue(f"code={code!r} may not be sent; the codes are 1000-1003, 1007-1014 and 3000-4999")
    length = len(check_text("the reason", reason))
    if length > 123:
        raise BadValue(f"the reason has {length} bytes; a Close frame holds 123 at most")


def source_of(direction: Direction) -> Literal["both", "client", "server"]:
    """Return the sender of the bytes that travel in a direction."""
    return _SOURCES[direction]
