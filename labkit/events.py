"""The one table of events: each kind that can happen in an experiment, with its lane, its details and its words.

A kind is a class, declared once. The rest of the lab takes from here all that it knows of a kind: the documentation of
``Timeline``, the checks of recordings, the vocabulary of ``predict``, the shapes, labels and sentences of the views,
what is folded first, and what begins and ends a lifetime. A new kind is a new class here, and the line that records it.

The classes are structs of msgspec: they are frozen, as cheap to make as a tuple, and checked against their types when
a recording is read.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Any, ClassVar, Final, Literal, Self, TypeVar, get_args

import msgspec

from labkit.errors import BadValue
from labkit.support.wording import describe_close, describe_message, describe_seconds

Lane = Literal["client", "wire", "library", "handler", "cleanup", "loop"]

#: The lanes, from left to right.
LANES: Final[tuple[Lane, ...]] = get_args(Lane)

#: The shapes of the marks in pictures.
Shape = Literal["begin", "send", "receive", "close", "frame", "end", "break", "lost", "fault", "notice", "say"]

#: An end of the connection, as the wire sees it.
Side = Literal["client", "server"]

#: The two ports of a TCP connection: of the side that connects, and of the side that listens.
Ports = tuple[int, int]

#: `logging.ERROR`; not imported, since reading events needs nothing else of `logging`.
_ERROR: Final = 40


@dataclass(frozen=True)
class Kind:
    """What the table says about one kind of event.

    Attributes:
        lane: the lane on which it happens.
        name: what happens, in one word.
        clause: a sentence about it, without the full stop; ``{text}`` and ``{event.source}`` are filled in.
        shape: the shape of its mark.
        label: the words beside its mark; they do not repeat the lane, which the position shows.
        failure: whether it is a fault or a failure.
        turning_point: whether it is one of the events that a reader looks for first.
        life: whether it begins or ends a lifetime: of a connection, of a handler's call, of the closing of a resource.
        predictable: whether a learner may predict it.
        hidden: whether the views leave it out: it is there for what the lab concludes.
    """

    lane: Lane
    name: str
    clause: str
    shape: Shape = "say"
    label: str = ""
    failure: bool = False
    turning_point: bool = False
    life: Literal["begins", "ends"] | None = None
    predictable: bool = True
    hidden: bool = False


# gc=False: an event refers to plain data alone, so the garbage collector need not look at it.
class Event(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One thing that happened.

    Each subclass is a kind of event; its fields are the details. Every event unpacks into ``at, lane, kind, text,
    data``.

    Each lane counts its connections by itself: the client lane has the numbers of the lab's clients, the wire those of
    its links, and the server's side those of what it has accepted, ``served``. ``labkit.connections`` finds out by the
    TCP ports which of these are the same connection, and gives it one number, ``connection``.

    Attributes:
        at: seconds since the timeline began, on a monotonic clock.
        text: what happened, for a reader, short.
        more: details that the kind does not declare, by name.
        connection: the number of the connection to which it belongs, from 1; None as long as it is unknown, and for an
            event that belongs to no connection, or to all.
        served: the number that the connection has on the server's side, from 1, for what happens there.
    """

    about: ClassVar[Kind]

    text: str = ""
    at: float = 0.0
    more: Mapping[str, Any] | None = None
    connection: int | None = None
    served: int | None = None

    @property
    def lane(self) -> Lane:
        """The lane on which it happened."""
        return self.about.lane

    @property
    def kind(self) -> str:
        """What happened, in one word."""
        return self.about.name

    @property
    def data(self) -> dict[str, Any]:
        """The details by name. Optional ones are left out while they are None, or a flag of the wire that is off."""
        details, options = _details_of(type(self))
        found = {name: getattr(self, name) for name in details}
        for name in options:
            if (value := getattr(self, name)) is not None and value is not False:
                found[name] = value
        return found if self.more is None else {**found, **self.more}

    @property
    def failed(self) -> bool:
        """Whether it is a fault or a failure."""
        return self.about.failure

    @property
    def shape(self) -> Shape:
        """The shape of its mark."""
        return self.about.shape

    @property
    def label(self) -> str:
        """A few words for it, without the lane, which the position shows."""
        return self.about.label.format(event=self, text=self.text, kind=self.kind) or self.text or self.kind

    def clause(self, text: str) -> str:
        """Make a sentence about it, without the full stop.

        Args:
            text: the event's text, as it should appear in the sentence.

        Returns:
            The sentence, such as ``"the client sends 'hello'"``.
        """
        return self.about.clause.format(event=self, text=text)

    def __iter__(self) -> Iterator[Any]:
        return iter((self.at, self.lane, self.kind, self.text, self.data))

    def __repr__(self) -> str:
        number = "" if self.connection is None else f", connection={self.connection}"
        return (
            f"Event(at={self.at!r}, lane={self.lane!r}, kind={self.kind!r}, text={self.text!r}, data={self.data!r}"
            f"{number})"
        )


#: The fields that every event has.
_COMMON: Final = frozenset(Event.__struct_fields__)

#: Those of them that say to which connection an event belongs.
NUMBERS: Final = ("connection", "served")

_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})

#: Every kind of event, by lane and name, in the order of the table.
KINDS: Final[dict[tuple[str, str], type[Event]]] = {}

E = TypeVar("E", bound=Event)


@cache
def classes_of(*kinds: type[Event]) -> frozenset[type[Event]]:
    """List the classes of kinds, for many events: whether each one's own is among them.

    ``isinstance`` takes five times as long here: it asks the class of these classes each time, which is msgspec's own.

    Args:
        kinds: classes of this module.

    Returns:
        These, and all that are made of them.
    """
    return frozenset(kinds).union(*(classes_of(*kind.__subclasses__()) for kind in kinds))


@cache  # when it is asked for: msgspec evaluates the annotations, and that takes longer than all else at the import
def _details_of(kind: type[Event]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The details that the data of a kind always contains, and those that it leaves out when they say nothing."""
    fields = [field for field in msgspec.structs.fields(kind) if field.name not in _COMMON]
    # A frame has many flags and most of them are off, so `data` leaves those out.
    of_wire = issubclass(kind, LinkEvent)
    options = tuple(f.name for f in fields if f.default is None or (of_wire and f.default is False))
    return tuple(field.name for field in fields if field.name not in options), options


def _kind(lane: Lane, name: str, clause: str, **about: Any) -> Callable[[type[E]], type[E]]:
    """Add a class to the table; the arguments are the fields of ``Kind``."""

    def add(kind: type[E]) -> type[E]:
        kind.about = Kind(lane, name, clause, **about)
        KINDS[lane, name] = kind
        return kind

    return add


# --- What kinds have in common ---------------------------------------------------------------------------------------


class MessageEvent(Event, frozen=True):
    """A message that is sent or received: the name of its opcode, and its length in bytes; None where unknown."""

    opcode: str | None
    length: int | None

    @classmethod
    def of(cls, message: str | bytes) -> Self:
        """Make the event for a message."""
        text, opcode, length = describe_message(message)
        return cls(opcode, length, text=text)


class CloseFrameEvent(Event, frozen=True):
    """A Close frame (RFC 6455, section 5.5.1): its code, None if it has none; and its reason, "" if it has none."""

    code: int | None
    reason: str = ""

    @classmethod
    def of(cls, code: int | None, reason: str) -> Self:
        """Make the event for a Close frame."""
        return cls(None if code is None else int(code), reason, text=describe_close(code, reason))


class PrintEvent(Event, frozen=True):
    """A printed line, and the stream to which it was printed."""

    stream: str = ""


class LogEvent(Event, frozen=True):
    """A log record of the module ``logging``."""

    levelno: int
    level: str = ""
    logger: str = ""
    exception: str | None = None

    @property
    def failed(self) -> bool:
        """Whether its level is ERROR or higher."""
        return self.levelno >= _ERROR


class LinkEvent(Event, frozen=True):
    """Something that happens to a connection through the wire; ``link`` is the connection's number."""

    link: int


class ResourceEvent(Event, frozen=True):
    """A step in the life of a resource: its name, and its ``id``, which no other resource has.

    ``shared`` says that it is the application's, for all connections, so that no handler has to close it.
    """

    id: int
    resource: str = ""
    shared: bool = False


# --- The client ------------------------------------------------------------------------------------------------------


@_kind("client", "connect", "the client connects", shape="begin", label="{kind}", turning_point=True, life="begins")
class ClientConnect(Event, frozen=True):
    """A client begins to connect; ``client`` is its name in ``labkit.CLIENTS``."""

    client: str = "labkit"


@_kind("client", "tcp", "the client's TCP connection is made", predictable=False, hidden=True)
class ClientTcp(Event, frozen=True):
    """The client's TCP connection is made; ``ports`` tells which link of the wire it is."""

    ports: Ports | None


@_kind("client", "open", "the handshake is complete", shape="begin", label="{kind}")
class ClientOpen(Event, frozen=True):
    """The opening handshake is complete."""

    status: int | None


@_kind(
    "client",
    "refused",
    "the client is refused: {text}",
    shape="break",
    label="{kind}: {text}",
    failure=True,
    life="ends",
)
class ClientRefused(Event, frozen=True):
    """The opening handshake failed: with an HTTP status, or with an exception of the library."""

    status: int | None
    exception: str | None


@_kind("client", "send", "the client sends {text}", shape="send", label="{kind} {text}")
class ClientSend(MessageEvent, frozen=True):
    """The client sends a message."""


@_kind("client", "recv", "the client receives {text}", shape="receive", label="{kind} {text}")
class ClientRecv(MessageEvent, frozen=True):
    """The client receives a message."""


@_kind("client", "close-sent", "the client sends {text}", shape="close", label="send {text}")
class ClientCloseSent(CloseFrameEvent, frozen=True):
    """The client sends a Close frame."""


@_kind("client", "close-received", "the client receives {text}", shape="close", label="recv {text}")
class ClientCloseReceived(CloseFrameEvent, frozen=True):
    """The client receives a Close frame."""


@_kind("client", "ended", "for the client: {text}", shape="end", turning_point=True, life="ends")
class ClientEnded(Event, frozen=True):
    """The client's connection is over, as the client sees it: how, and the close code that its connection reports."""

    how: str | None
    code: int | None
    exception: str | None

    @property
    def failed(self) -> bool:
        """Whether the connection broke."""
        return self.how in {"reset", "error"}

    @property
    def shape(self) -> Shape:
        """The shape of its mark: a broken connection is marked as a break."""
        return "break" if self.failed else "end"

    @property
    def label(self) -> str:
        """A few words: how the connection ended, or what the library said."""
        short = {"fin": "ended: FIN", "reset": "ended: reset", "closed": "ended", "still-open": "stopped"}
        return short.get(str(self.how)) or _short(self.text.replace("connection ended", "ended", 1)) or self.kind


@_kind("client", "error", "the client fails: {text}", shape="break", failure=True, predictable=False)
class ClientError(Event, frozen=True):
    """An action of the client has failed."""

    exception: str | None

    @property
    def label(self) -> str:
        """The exception without its module."""
        return _short(self.text) or self.kind


@_kind("client", "failed", "the client's {text}", shape="break", failure=True, predictable=False)
class ClientFailed(Event, frozen=True):
    """The client's talk has raised an ``exception``, at a ``line`` of its file."""

    exception: str
    line: int | None = None

    @property
    def label(self) -> str:
        """What it has raised."""
        return _short(self.text) or self.kind


@_kind("client", "signal", "the client's process is sent {text}")
class ClientSignal(Event, frozen=True):
    """The client's process gets a signal."""

    signal: str = ""
    pid: int = 0


@_kind("client", "exit", "the client's {text}", shape="end", life="ends")
class ClientExit(Event, frozen=True):
    """The client's process has ended: its exit status, which is negative if a signal ended it."""

    how: str = ""
    status: int = 0

    @property
    def failed(self) -> bool:
        """Whether a signal ended the process, or it ended with an error."""
        return self.status != 0

    @property
    def shape(self) -> Shape:
        """The shape of its mark: a process that failed is marked as a break."""
        return "break" if self.failed else "end"


@_kind("client", "print", "the client prints '{text}'", label="print '{text}'", predictable=False)
class ClientPrint(PrintEvent, frozen=True):
    """A client written with a library prints a line."""


@_kind("client", "log", "the client's log says: {text}", predictable=False)
class ClientLog(LogEvent, frozen=True):
    """The library logs something in the client's tasks."""


@_kind("client", "stranger", "{text}", shape="begin", predictable=False)
class ClientStranger(Event, frozen=True):
    """Somebody else connects during the experiment, such as a port scan: to the wire or to the server.

    ``called`` says whether the handler was called for this connection.
    """

    to_wire: bool = True
    called: bool = False


# --- The wire --------------------------------------------------------------------------------------------------------


@_kind("wire", "link", "the wire takes the client's connection", shape="begin")
class WireLink(LinkEvent, frozen=True):
    """A client has connected to the wire; ``ports`` tells which client."""

    ports: Ports | None = None


@_kind("wire", "tcp", "the wire connects to the server", predictable=False, hidden=True)
class WireTcp(LinkEvent, frozen=True):
    """The wire has connected to the server; ``ports`` tells which connection of the server's it is."""

    ports: Ports | None


@_kind("wire", "handshake", "the wire sees the handshake", shape="begin")
class WireHandshake(LinkEvent, frozen=True):
    """The server's answer to the opening handshake passes."""

    request: str | None
    status: int
    injected: bool = False


@_kind("wire", "frame", "the wire passes {text} from the {event.source}", shape="frame")
class WireFrame(LinkEvent, frozen=True):
    """A frame passes (RFC 6455, section 5.2).

    ``length`` is the length of the payload in bytes; ``payload`` is its beginning, for a reader. A Close frame has a
    ``code`` and a ``reason``. ``injected`` says that the wire itself made the frame.
    """

    source: Side
    opcode: str
    length: int
    fin: bool = True
    payload: str | None = None
    compressed: bool = False
    code: int | None = None
    reason: str | None = None
    malformed: str | None = None
    masked: bool = False
    unmasked: bool = False
    injected: bool = False

    @property
    def data(self) -> dict[str, Any]:
        """The details; for a Close frame with its code, even if that is None."""
        found = super().data
        return found | {"code": self.code, "reason": self.reason} if self.opcode == "CLOSE" else found

    @property
    def shape(self) -> Shape:
        """The shape of its mark: a Close frame has its own."""
        return "close" if self.opcode == "CLOSE" else "frame"

    @property
    def label(self) -> str:
        """Its text, and an arrow for its direction."""
        return f"{'→' if self.source == 'client' else '←'} {self.text}"


@_kind("wire", "fault", "the fault strikes: {text}", shape="fault", failure=True)
class WireFault(Event, frozen=True):
    """The fault strikes: its name, its family, and its knobs by name.

    If it is unknown whether the conversation was through, ``unknown`` is a clause that says how far it had come.
    ``link`` is that of the wire, if a wire strikes.
    ``when`` is the moment at which it was to strike, if that is another one than the end of the conversation.
    ``line`` is the line at which the handler waited then, and ``waits`` how many times it had waited by then.
    """

    fault: str = ""
    family: str = ""
    knobs: dict[str, Any] = {}
    unknown: str | None = None
    link: int | None = None
    when: str | None = None
    line: int | None = None
    waits: int | None = None

    @property
    def what(self) -> str:
        """The fault with its knobs, and its moment."""
        return self.text if self.when is None else f"{self.text} {self.when}"

    @property
    def label(self) -> str:
        """Its name; its knobs are in the title."""
        return f"fault: {self.fault or self.text}" + ("" if self.when is None else f" {self.when}")


@_kind("wire", "spared", "{text}", turning_point=True)
class WireSpared(Event, frozen=True):
    """The fault does not strike, since the connection is over already, or its moment has not come.

    ``why`` is the rest of "since …"; ``when`` is the moment, if it is another one than the end of the conversation.
    ``link`` is that of the wire, if a wire would have struck.
    """

    fault: str
    family: str
    why: str
    link: int | None = None
    when: str | None = None

    @property
    def label(self) -> str:
        """That the connection is spared, and why."""
        return f"{self.fault} spared: {self.why}"


@_kind("wire", "fin", "on the wire: {text}", shape="end")
class WireFin(LinkEvent, frozen=True):
    """A FIN: from one end; or from the wire, ``to`` one end."""

    source: Literal["client", "server", "wire"]
    to: Side | None = None


@_kind("wire", "reset", "on the wire: {text}", shape="break", failure=True)
class WireReset(LinkEvent, frozen=True):
    """A RST: from one end; or from the wire, ``to`` one end."""

    source: Literal["client", "server", "wire"]
    to: Side | None = None
    why: str | None = None


@_kind("wire", "lost", "on the wire: {text}", shape="lost", failure=True)
class WireLost(LinkEvent, frozen=True):
    """The wire did not pass on ``length`` bytes from one end; or it withheld ``what``, such as a FIN."""

    source: Side
    length: int
    what: str | None = None


@_kind("wire", "held", "on the wire: {text}", predictable=False)
class WireHeld(LinkEvent, frozen=True):
    """The wire keeps ``length`` bytes from one end until the fault has struck between two frames."""

    source: Side
    length: int


@_kind("wire", "full", "on the wire: {text}", predictable=False)
class WireFull(LinkEvent, frozen=True):
    """One end does not read, so the wire has stopped reading from the other end."""

    side: Side


@_kind("wire", "opaque", "on the wire: {text}", predictable=False)
class WireOpaque(LinkEvent, frozen=True):
    """The bytes from one end cannot be decoded; ``why`` gives the reason."""

    source: Side
    why: str = ""
    injected: bool = False


@_kind("wire", "closed", "the wire's link is closed")
class WireClosed(LinkEvent, frozen=True):
    """Both sockets of a connection are closed."""


# --- The server's library: what it does by itself, when it does it ---------------------------------------------------


class LibraryEvent(Event, frozen=True):
    """Something that the server's library does by itself on a connection."""


class LibraryCloseEvent(LibraryEvent, frozen=True):
    """A Close frame that the library gets or sends: its code, None if it has none; and its reason."""

    code: int | None
    reason: str = ""

    @classmethod
    def of_frame(cls, code: int | None, reason: str) -> Self:
        """Make the event for a Close frame."""
        return cls(code, reason, text=describe_close(code, reason))


@_kind("library", "tcp", "the server accepts a TCP connection", predictable=False, hidden=True)
class LibraryTcp(LibraryEvent, frozen=True):
    """The server accepts a TCP connection; ``ports`` tells which link of the wire it is."""

    ports: Ports | None


@_kind(
    "library",
    "close-received",
    "the library gets {text}",
    shape="close",
    label="gets {text}",
    turning_point=True,
)
class LibraryCloseReceived(LibraryCloseEvent, frozen=True):
    """The library gets the client's Close frame."""


@_kind("library", "close-sent", "the library sends {text}", shape="close", label="sends {text}")
class LibraryCloseSent(LibraryCloseEvent, frozen=True):
    """The library sends a Close frame: the answer to the client's, or one of its own."""


@_kind("library", "fin-received", "the library {text}", shape="end", turning_point=True)
class LibraryFinReceived(LibraryEvent, frozen=True):
    """The library gets the client's FIN (asyncio calls ``eof_received``)."""


@_kind("library", "lost", "the library {text}", shape="end", turning_point=True)
class LibraryLost(LibraryEvent, frozen=True):
    """The library learns that TCP is gone (asyncio calls ``connection_lost``), and by which exception."""

    exception: str | None

    @property
    def shape(self) -> Shape:
        """The shape of its mark: a broken connection is marked as a break."""
        return "end" if self.exception is None else "break"


@_kind("library", "tcp-closed", "the library {text}", shape="end")
class LibraryTcpClosed(LibraryEvent, frozen=True):
    """The library closes the TCP connection: the method of the transport that it calls, and how many bytes it drops."""

    how: Literal["close", "write_eof", "abort"]
    dropped: int = 0


@_kind("library", "ping-sent", "the library {text}", shape="send")
class LibraryPingSent(LibraryEvent, frozen=True):
    """The library sends a ping, without the handler."""


@_kind("library", "ping-received", "the library {text}", shape="receive")
class LibraryPingReceived(LibraryEvent, frozen=True):
    """The library gets a ping of the client."""


@_kind("library", "pong-sent", "the library {text}", shape="send")
class LibraryPongSent(LibraryEvent, frozen=True):
    """The library answers a ping of the client."""


@_kind("library", "pong-received", "the library {text}", shape="receive")
class LibraryPongReceived(LibraryEvent, frozen=True):
    """The library gets a pong of the client."""


@_kind("library", "gave-up", "the library {text}", shape="break", failure=True, turning_point=True)
class LibraryGaveUp(LibraryEvent, frozen=True):
    """The library has waited long enough, for what ``why`` says, and ends the connection."""

    why: str


@_kind("library", "cancel", "the library {text}", shape="notice")
class LibraryCancel(LibraryEvent, frozen=True):
    """The library cancels the handler's task: the function that does it."""

    by: str


@_kind("library", "paused", "the library {text}", shape="lost")
class LibraryPaused(LibraryEvent, frozen=True):
    """The library's write buffer is full: from now on, ``send()`` waits. ``unsent`` counts the bytes in it."""

    unsent: int


@_kind("library", "resumed", "the library {text}")
class LibraryResumed(LibraryEvent, frozen=True):
    """The library's write buffer has room again."""


# --- The handler -----------------------------------------------------------------------------------------------------


@_kind("handler", "start", "the handler {text}", shape="begin", turning_point=True, life="begins")
class HandlerStart(Event, frozen=True):
    """The library calls the handler.

    ``given`` is the type of the handler's argument, and ``call`` the number of the call. ``outline`` says that of this
    call only the outline is recorded: that it began, and how it ended.
    """

    handler: str
    stack: str
    library: str
    given: str
    call: int
    outline: bool | None = None


@_kind("handler", "lines", "the handler's lines are watched", predictable=False, hidden=True)
class HandlerLines(Event, frozen=True):
    """The handler's lines that can run, its source, and the tool that watches the lines, or why no tool can.

    The lines of a helper in the same file join them when the helper first runs; ``helpers`` has the first line and the
    source of each. ``elsewhere`` has functions of other files that have run: the name, the lines that can run, the
    first line, and the source.
    """

    executable: list[int]
    tool: str | None
    why: str | None
    source: str | None
    first: int
    helpers: list[tuple[int, str]] = []
    elsewhere: list[tuple[str, list[int], int, str | None]] = []


@_kind("handler", "line", "the handler runs line {event.where}", label="line {event.where}: {text}", predictable=False)
class HandlerLine(Event, frozen=True):
    """A line of the handler runs for the first time; or of a ``function`` in another file, which somebody watches."""

    line: int
    function: str = ""

    @property
    def where(self) -> str:
        """The line's number, and the function if that is in another file."""
        return f"{self.line} of {self.function}" if self.function else str(self.line)


@_kind("handler", "recv", "the handler receives {text}", shape="receive", label="{kind} {text}")
class HandlerRecv(MessageEvent, frozen=True):
    """The library gives a message to the handler."""


@_kind("handler", "send", "the handler sends {text}", shape="send", label="{kind} {text}")
class HandlerSend(MessageEvent, frozen=True):
    """The handler gives a message, or a fragment of one, to the library.

    ``by`` is the number, on the server's side, of another connection whose handler does it on this one.
    """

    by: int | None = None


@_kind("handler", "close", "the handler calls {text}", shape="close")
class HandlerClose(Event, frozen=True):
    """The handler closes the connection.

    ``by`` is the number, on the server's side, of another connection whose handler does it on this one.
    """

    code: int | None
    by: int | None = None


@_kind("handler", "notice", "the handler is told: {text}", shape="notice", turning_point=True)
class HandlerNotice(Event, frozen=True):
    """The library tells the handler that the connection is over: how, and the code that the connection then reports.

    ``by`` is the number, on the server's side, of another connection whose handler is told it of this one.
    """

    exception: str | None
    code: int | None
    how: str = ""
    by: int | None = None

    @property
    def label(self) -> str:
        """What the library tells; for an exception, the exception alone."""
        return self.text.removeprefix(f"{self.how}: ")


@_kind("handler", "cancelled", "the handler is {text}", shape="break", turning_point=True)
class HandlerCancelled(Event, frozen=True):
    """The handler's task is cancelled: ``by`` a function of a ``package``, where these are known.

    ``followed`` says that the lab sees where the cancel ends. ``again`` says that the cancel before has not come to the
    handler yet: it gets one ``CancelledError`` for both.
    """

    by: str | None
    package: str | None
    followed: bool | None = None
    again: bool = False

    @property
    def failed(self) -> bool:
        """Whether somebody else than the lab itself cancels it; the lab does so at the end."""
        return self.by != "the lab"


@_kind(
    "handler", "swallowed", "in the handler, {text}", shape="break", failure=True, turning_point=True, predictable=False
)
class HandlerSwallowed(Event, frozen=True):
    """A cancel ends in the handler, which does not pass it on: at a ``line`` of its file or cell, where that is known.

    ``by`` is who had cancelled, and ``whose`` the cancel was: that of a ``limit`` of time, of a ``group`` of tasks, or
    another. ``then`` tells whether the handler went ``on`` or ``returned``. ``where`` names other code that ended it.
    """

    line: int | None
    by: str | None
    whose: Literal["limit", "group", "other"] = "other"
    then: Literal["on", "returned"] = "on"
    where: str | None = None

    @property
    def label(self) -> str:
        """That the cancel ends, and the line."""
        return "cancel ends" + ("" if self.line is None else f", line {self.line}")


@_kind("handler", "blocked", "the handler {text}", shape="break", failure=True, turning_point=True, predictable=False)
class HandlerBlocked(Event, frozen=True):
    """The handler keeps the loop to itself: from here on for so many ``seconds``, nothing else runs in it.

    ``line`` is the line in the handler's file or cell, where that is known; ``ended`` says that the lab has ended it;
    ``apart``, that client and wire had a loop of their own. If they had not, they stood still too.
    """

    seconds: float = 0.0
    line: int | None = None
    ended: bool = False
    apart: bool = False

    @property
    def label(self) -> str:
        """How long, and the line."""
        where = "" if self.line is None else f", line {self.line}"
        return f"blocks the loop {describe_seconds(self.seconds)}{where}"


@_kind("handler", "print", "the handler prints '{text}'", label="print '{text}'")
class HandlerPrint(PrintEvent, frozen=True):
    """The handler prints a line."""


@_kind("handler", "log", "the log says: {text}")
class HandlerLog(LogEvent, frozen=True):
    """The handler, or the library that serves it, logs something."""


@_kind("handler", "note", "the handler notes: {text}", label="{kind}: {text}")
class HandlerNote(Event, frozen=True):
    """The handler calls ``labkit.note``; its keyword arguments are in ``more``."""


@_kind("handler", "error", "in the handler {text}", shape="break", failure=True, predictable=False)
class HandlerError(Event, frozen=True):
    """A fault raises an exception in the handler."""

    exception: str | None

    @property
    def label(self) -> str:
        """The exception without its module."""
        return _short(self.text) or self.kind


@_kind("handler", "end", "the handler ends: {text}", shape="end", turning_point=True, life="ends")
class HandlerEnd(Event, frozen=True):
    """The handler has ended.

    ``close_code`` is the code that the handler's own connection reports. ``loss`` says whether the handler raised an
    exception that reports a lost connection; ``induced``, whether what it raised comes from the exception of a fault.
    ``written_for`` names another library, if the exception shows that the handler is written for that one.
    ``timed_out`` tells of the ``asyncio.timeout`` around the handler, if it has expired: whether it has fired.
    ``doubt`` is a reason why the handler may have noticed a loss without being told. ``unasked`` tells how it ended in
    a cancel that nobody asked of its task, and ``own`` whether its own code alone can be behind that. ``waits`` says
    how many times it had waited by then; None if that is unknown.
    """

    ending: Literal["returned", "raised", "cancelled"]
    exception: str | None
    close_code: int | None
    call: int
    loss: bool = False
    written_for: str | None = None
    doubt: str | None = None
    induced: bool = False
    timed_out: bool | None = None
    unasked: str | None = None
    own: bool | None = None
    waits: int | None = None

    @property
    def failed(self) -> bool:
        """Whether it did not return."""
        return self.ending != "returned"

    @property
    def shape(self) -> Shape:
        """The shape of its mark: a handler that did not return is marked as a break."""
        return "break" if self.failed else "end"


# --- The cleanup -----------------------------------------------------------------------------------------------------


@_kind("cleanup", "open", "{text} is opened", shape="begin", label="{text}: {kind}")
class CleanupOpen(ResourceEvent, frozen=True):
    """A resource is opened."""


@_kind("cleanup", "closing", "{text} begins to close", shape="close", label="{text}: {kind}", life="begins")
class CleanupClosing(ResourceEvent, frozen=True):
    """A resource begins to close."""


@_kind("cleanup", "closed", "{text} is closed", shape="end", label="{text}: {kind}", life="ends")
class CleanupClosed(ResourceEvent, frozen=True):
    """A resource is completely closed."""


@_kind(
    "cleanup",
    "truncated",
    "the closing of {text} is cut short",
    shape="break",
    label="{text}: {kind}",
    failure=True,
    life="ends",
)
class CleanupTruncated(ResourceEvent, frozen=True):
    """An exception, usually a cancel, has cut the closing of a resource short."""


# --- The loop --------------------------------------------------------------------------------------------------------


@_kind("loop", "exception", "an error is reported: {text}", shape="break", failure=True)
class LoopException(Event, frozen=True):
    """The loop's exception handler is called, with a message and perhaps an exception; or one ends a thread."""

    exception: str | None
    message: str = ""


@_kind("loop", "shutdown", "{text}")
class LoopShutdown(Event, frozen=True):
    """The server's own shutdown begins; or it is complete, if ``done``."""

    done: bool | None


@_kind("loop", "blocked", "{text}")
class LoopBlocked(Event, frozen=True):
    """The server's loop is blocked, for a number of seconds."""

    seconds: float = 0.0


@_kind("loop", "unblocked", "{text}")
class LoopUnblocked(Event, frozen=True):
    """The server's loop runs again."""


@_kind("loop", "held-up", "{text}", shape="break", predictable=False)
class LoopHeldUp(Event, frozen=True):
    """Code of another experiment keeps the loop to itself: from here on for so many ``seconds``, nothing else runs."""

    seconds: float = 0.0


@_kind("loop", "met", "{text}", shape="break", predictable=False)
class LoopMet(Event, frozen=True):
    """A handler writes to the client of another experiment in the same loop, or has one of an ``earlier`` one."""

    earlier: bool = False


@_kind("loop", "crowd", "{text}", predictable=False)
class LoopCrowd(Event, frozen=True):
    """The host serves more connections at once than it watches ``closely``: from now on, some only in outline."""

    closely: int = 0


@_kind("loop", "target", "{text}", shape="begin", label="{text}", predictable=False)
class LoopTarget(Event, frozen=True):
    """The server that is played is not the lab's: where it listens."""

    url: str = ""


@_kind("loop", "exit", "{text}", shape="end", label="{text}", turning_point=True, predictable=False)
class LoopExit(Event, frozen=True):
    """The server's process has ended: its exit status, which is negative if a signal ended it."""

    status: int = 0


@_kind("loop", "stop", "{text}", shape="end", turning_point=True, predictable=False)
class LoopStop(Event, frozen=True):
    """The lab ends the experiment: the longest wait that it allowed, and the methods that the handlers were in.

    ``of`` gives for each of these methods the number, on the server's side, of the handler's connection.
    """

    patience: float = 0.0
    inside: list[str] = []
    of: list[int] = []


@_kind("loop", "so-far", "{text}", predictable=False)
class LoopSoFar(Event, frozen=True):
    """The last event of a run that is not over: what has not happened may still happen.

    ``inside`` and ``of`` are as those of ``LoopStop``.
    """

    inside: list[str] = []
    of: list[int] = []


@_kind("loop", "ended", "{text}", shape="end", predictable=False)
class LoopEnded(Event, frozen=True):
    """Something that has outlived its handler has ended by itself: what it is, its name, and what it has raised."""

    what: str = ""
    name: str = ""
    exception: str | None = None


@_kind(
    "loop",
    "leaked",
    "left behind: {text}",
    shape="break",
    label="{kind}: {text}",
    failure=True,
    predictable=False,
)
class LoopLeaked(Event, frozen=True):
    """Something was left behind: what it is, its name, and whether it refuses to end (``stubborn``)."""

    what: str = ""
    name: str = ""
    stubborn: bool = False


# --- What is not in the table ----------------------------------------------------------------------------------------


class Unlisted(Event, frozen=True):
    """An event whose kind a script made up, and the table does not have; its details are in ``more``."""

    about: ClassVar[Kind] = Kind("loop", "", "{text}")

    own_lane: Lane
    own_kind: str

    @property
    def lane(self) -> Lane:
        """The lane on which it happened."""
        return self.own_lane

    @property
    def kind(self) -> str:
        """What happened."""
        return self.own_kind

    @property
    def data(self) -> dict[str, Any]:
        """The details by name."""
        return dict(self.more or {})


def make(
    lane: str,
    kind: str,
    text: str = "",
    data: Mapping[str, Any] = _NOTHING,
    *,
    at: float = 0.0,
    numbers: Mapping[str, Any] = _NOTHING,
) -> Event:
    """Make an event from its parts, which come from a script, a recording or another process.

    Args:
        lane: the lane on which it happened.
        kind: what happened, in one word.
        text: what happened, for a reader.
        data: details by name. A detail that may be None can be left out. A detail that the kind does not declare goes
            into ``more``.
        at: when it happened, in seconds since the timeline began; ``Timeline.append`` sets this time itself.
        numbers: the numbers of the connection to which it belongs: its ``connection``, its ``served``, or both.

    Returns:
        An event of the table's class; an ``Unlisted`` one, if the table has no such kind.

    Raises:
        BadValue: there is no such lane; or a detail is missing, or of the wrong type.
    """
    if lane not in LANES:
        raise BadValue(f"there is no lane {lane!r}; the lanes are {', '.join(LANES)}")
    found = KINDS.get((lane, kind))
    known = {"own_lane": lane, "own_kind": kind} if found is None else _declared(found, data)
    more = dict(data) if found is None else {name: value for name, value in data.items() if name not in known}
    parts = {**known, **numbers, "text": text, "at": at, "more": more or None}
    try:
        return msgspec.convert(parts, found or Unlisted)
    except msgspec.ValidationError as problem:
        raise BadValue(f"{lane} {kind} {_explain(problem, known)}") from None


def _declared(kind: type[Event], data: Mapping[str, Any]) -> dict[str, Any]:
    """The details that a kind declares; those that may be None and are left out are None."""
    names, optional = _names_of(kind)
    return dict.fromkeys(optional) | {name: value for name, value in data.items() if name in names}


@cache  # msgspec evaluates the annotations again each time, and a recording has many events
def _names_of(kind: type[Event]) -> tuple[frozenset[str], tuple[str, ...]]:
    """The names of the details that a kind declares; and of those among them that may be left out for None."""
    fields = [field for field in msgspec.structs.fields(kind) if field.name not in _COMMON]
    optional = tuple(field.name for field in fields if field.required and _may_be_none(field.type))
    return frozenset(field.name for field in fields), optional


def _may_be_none(kind: Any) -> bool:
    return type(None) in get_args(kind)


def _explain(problem: msgspec.ValidationError, data: Mapping[str, Any]) -> str:
    """Put msgspec's message into a reader's words; it calls the detail ``link`` ``$.link``."""
    if missing := re.search(r"required field `(\w+)`", str(problem)):
        return f"has no {missing[1]!r}"
    what, _, where = str(problem).partition(" - at `$.")
    name = re.split(r"\W", where)[0]
    return f"has {name}={reprlib.repr(data.get(name))}: {what[:1].lower()}{what[1:].replace('`', '')}"


def _short(text: str) -> str:
    """Remove the module before the name of each exception."""
    return re.sub(r"\b(?:[a-z_]\w*\.)+(?=[A-Z])", "", text)


def vocabulary() -> str:
    """List the kinds, lane by lane, for a docstring."""
    lanes: dict[str, list[str]] = {lane: [] for lane in LANES}
    for lane, name in KINDS:
        lanes[lane].append(name)
    return "\n".join(f"{lane:<8} {', '.join(names) or '-'}" for lane, names in lanes.items())
