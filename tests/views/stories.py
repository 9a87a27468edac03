"""Timelines to draw: each tells of an experiment that the lab stages."""

from __future__ import annotations

from typing import Any

import msgspec

from labkit.events import Event, Lane, make
from labkit.timeline import Timeline
from labkit.verdict import Verdict, judge


class Story:
    """Builds a timeline, event by event.

    Args:
        at: the time of the first event in milliseconds.
    """

    def __init__(self, at: float = 2.0) -> None:
        self.at = at
        self.events: list[Event] = []

    def then(self, lane: Lane, kind: str, text: str = "", *, wait: float = 0.1, **data: Any) -> Story:
        """Add an event that happens ``wait`` milliseconds after the one before."""
        self.at += wait
        self.events.append(make(lane, kind, text, data, at=self.at / 1000))
        return self

    def opened(self, handler: str = "echo", stack: str = "aiohttp") -> Story:
        """Connect, start the handler, and shake hands."""
        self.then("client", "connect", "connect ws://127.0.0.1:4711/")
        self.then("wire", "link", "client connected", link=0, wait=0.3)
        self.then(
            "handler", "start", f"{handler} starts", handler=handler, stack=stack, library=f"{stack} 3.14.5",
            given="Request", call=1, wait=1.2,
        )  # fmt: skip
        self.then("wire", "handshake", "GET / → 101", link=0, request="GET /", status=101, wait=0.9)
        return self.then("client", "open", "handshake complete", status=101)

    def said(self, message: str = "'hello'", *, answer: bool = True) -> Story:
        """Let the client send a message that the handler receives, and answers or not."""
        size = {"opcode": "TEXT", "length": len(message) - 2}
        self.then("client", "send", message, **size)
        self.framed("client", message)
        self.then("handler", "recv", message, **size)
        if answer:
            self.then("handler", "send", message, **size)
            self.framed("server", message)
            self.then("client", "recv", message, **size)
        return self

    def framed(self, source: str, message: str, opcode: str = "TEXT", **data: Any) -> Story:
        """Let a frame pass the wire."""
        length = len(message) - 2
        return self.then(
            "wire", "frame", f"{opcode} {message}", source=source, opcode=opcode, length=length, link=0, **data
        )

    def closed(self, source: str, code: int = 1000) -> Story:
        """Let a Close frame pass the wire."""
        return self.then("wire", "frame", f"Close {code}", source=source, opcode="CLOSE", length=2, link=0, code=code)

    def struck(self, fault: str = "reset") -> Story:
        """Let the fault strike."""
        return self.then("wire", "fault", fault, fault=fault, knobs={})

    def reset(self) -> Story:
        """Break the connection, and tell both ends."""
        self.struck()
        self.then("wire", "reset", "RST to the server", link=0, source="wire", to="server")
        self.then("wire", "reset", "RST to the client", link=0, source="wire", to="client")
        self.then("wire", "closed", "link closed", link=0)
        why = "connection ended: ConnectionResetError: [Errno 104] Connection reset by peer"
        return self.then("client", "ended", why, how="reset", code=None)

    def noticed(self, text: str = "receive() gave CLOSED", code: int = 1006) -> Story:
        """Let the library tell the handler."""
        how, _, exception = text.partition(": ")
        return self.then("handler", "notice", text, how=how, exception=exception or None, code=code, wait=0.3)

    def ended(self, ending: str = "returned", exception: str | None = None, **more: Any) -> Story:
        """End the handler."""
        told = ending if exception is None else f"raised {exception}"
        return self.then("handler", "end", told, ending=ending, exception=exception, close_code=1006, call=1, **more)

    def cleanup(self, name: str, *kinds: str, number: int = 1, wait: float = 0.1) -> Story:
        """Add events of a resource."""
        for kind in kinds:
            self.then("cleanup", kind, name, resource=name, id=number, wait=wait)
        return self

    def stopped(self, wait: float = 0.8) -> Story:
        """Let the lab end the experiment."""
        return self.then("loop", "stop", "the lab ends the experiment", patience=2.0, wait=wait)

    @property
    def timeline(self) -> Timeline:
        """The timeline."""
        return Timeline.of(self.events)

    @property
    def told(self) -> tuple[Timeline, Verdict]:
        """The timeline and its verdict."""
        return self.timeline, judge(self.timeline)


def echo_reset() -> Story:
    """The echo handler, one message, and a reset that it notices."""
    story = Story().opened().cleanup("database", "open").said().reset().noticed()
    story.cleanup("database", "closing").cleanup("database", "closed", wait=50.3)
    return story.then("handler", "print", "bye", stream="stdout").ended().stopped()


def short() -> Story:
    """Five events."""
    story = Story()
    story.then("client", "connect", "connect ws://127.0.0.1:4711/")
    story.then(
        "handler", "start", "echo starts", handler="echo", stack="websockets", library="websockets 17.4",
        given="ServerConnection", call=1,
    )  # fmt: skip
    return story.struck("fin").noticed("the loop ends").ended()


def long(messages: int = 12) -> Story:
    """Many messages, and the handler raises."""
    story = Story().opened("chat", "websockets")
    for n in range(messages):
        story.said(f"'message {n}'")
    story.reset().noticed("recv(): ConnectionClosedError: no close frame received or sent")
    story.ended("raised", "ConnectionClosedError: no close frame received or sent")
    text = "ERROR websockets.server: connection handler failed"
    return story.then("handler", "log", text, level="ERROR", levelno=40, logger="websockets.server").stopped()


def truncated() -> Story:
    """Three resources and one cancel; a second cancel cuts the closing short, and a task is left behind."""
    story = Story().opened("shop", "aiohttp-cancel")
    for n, name in enumerate(("database", "lock", "session"), 1):
        story.cleanup(name, "open", number=n)
    story.said().reset()
    by = "RequestHandler.connection_lost (aiohttp)"
    story.then("handler", "cancelled", f"cancelled by {by}", by=by, package="aiohttp")
    story.cleanup("session", "closing", number=3).cleanup("session", "closed", number=3, wait=10)
    story.cleanup("lock", "closing", number=2)
    story.then("handler", "cancelled", "cancelled by shutdown (asyncio)", by="shutdown", package="asyncio", wait=20)
    story.cleanup("lock", "truncated", number=2).cleanup("database", "closing", number=1)
    story.ended("cancelled")
    text = "Task exception was never retrieved: ValueError: the order was lost"
    story.then("loop", "exception", text, message="Task exception was never retrieved", exception="ValueError")
    story.stopped(wait=400)
    return story.then("loop", "leaked", "task 'Task-7' (release)", what="task", name="Task-7", stubborn=False)


def silence() -> Story:
    """A black hole: a PING is lost, and the library gives up after a while."""
    story = Story().opened("echo", "websockets").said().struck("blackhole")
    story.framed("server", "'abcd'", "PING", wait=950)
    story.then("wire", "lost", "6 bytes from the server lost", source="server", length=6, link=0, wait=0.02)
    story.then("client", "send", "'anyone?'", opcode="TEXT", length=7, wait=200).framed("client", "'anyone?'")
    story.then("wire", "lost", "13 bytes from the client lost", source="client", length=13, link=0, wait=0.02)
    story.noticed(
        "recv(): ConnectionClosedError: sent 1011 (internal error) keepalive ping timeout; no close frame received",
        1011,
    )
    story.events[-1] = msgspec.structs.replace(story.events[-1], at=story.events[-1].at + 0.5)
    story.at += 500
    return story.ended("raised", "ConnectionClosedError: sent 1011 (internal error)")


def goodbye() -> Story:
    """A clean close: Close frames in both directions."""
    story = Story().opened("echo", "websockets").said().struck("close")
    story.then("client", "close-sent", "Close 1000 'bye'", code=1000, reason="bye").closed("client").closed("server")
    story.then("wire", "fin", "FIN from the server", link=0, source="server")
    story.then("client", "close-received", "Close 1000", code=1000, reason="")
    story.then("client", "ended", "connection ended: FIN", how="fin", code=1000)
    story.noticed("recv(): ConnectionClosedOK: received 1000 (OK); then sent 1000 (OK)", 1000)
    return story.ended().stopped()


def unaware() -> Story:
    """A handler that notices nothing, until the lab stops it."""
    story = Story().opened("sleeper", "aiohttp").cleanup("database", "open").said(answer=False).struck("fin")
    story.then("wire", "fin", "FIN to the server", link=0, source="wire", to="server").stopped(wait=2000)
    story.then("handler", "cancelled", "cancelled by the lab", by="the lab", package="labkit")
    story.cleanup("database", "closing", "closed").ended("cancelled")
    return story.then("client", "ended", "still open when the lab stopped it", how="still-open", code=None)
