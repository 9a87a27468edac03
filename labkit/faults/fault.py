"""What a fault is, and the registry of all of them."""

from __future__ import annotations

import dataclasses
import inspect
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

from labkit.checks import check_text, find, is_whole
from labkit.errors import BadValue
from labkit.timeline import Timeline
from labkit.wire import Wire

__all__ = ["Fault", "Moment", "Peer", "Scene", "Served", "check_close", "find_fault", "registry"]

#: When a fault strikes: before the client's handshake, or when the last answer has arrived.
Moment = Literal["handshake", "talk"]

#: Every fault's class, by name, in the order of definition.
registry: dict[str, type[Fault]] = {}


class Peer(Protocol):
    """What a fault may ask of the client."""

    def close(self, code: int | None = 1000, reason: str = "") -> None:
        """Send a Close frame."""

    def send(self, message: str | bytes) -> None:
        """Send a message."""

    async def signal(self, number: int) -> None:
        """Send a signal to the client's process; only where the fault has it in a process of its own."""


class Served(Protocol):
    """What a fault may ask of the server."""

    def shut_down(self) -> None:
        """Begin the library's own shutdown."""

    async def cancel(self) -> None:
        """Cancel the handlers' tasks; wait until each handler waits for something again, or has ended."""

    def throw(self, exception: Exception) -> None:
        """Raise an exception in the handlers, where they wait."""

    def block(self, seconds: float) -> None:
        """Block the loop in which the server runs."""


@dataclass(frozen=True)
class Scene:
    """Where a fault strikes.

    Attributes:
        wire: the relay between the client and the server.
        client: the client.
        server: the server.
        timeline: the experiment's.
        patience: how long a fault may wait for a cause, in seconds, already scaled.
        messages: what the client has sent, for a fault that has it go on talking.
    """

    wire: Wire
    client: Peer
    server: Served
    timeline: Timeline
    patience: float
    messages: Sequence[str | bytes] = ()


class Fault(ABC):
    """A named way for a connection to end or misbehave; its fields are its knobs.

    A subclass is a frozen dataclass with its name and family as class arguments:
    ``class Reset(Fault, name="reset", family="transport")``. Its docstring says what travels on the wire, what causes
    it in life, and what to look for.

    Attributes:
        name: the name by which ``play`` takes it.
        family: the family of faults that it belongs to.
        moment: when it strikes.
        own_loop: whether the server needs a loop and a thread of its own, because the fault blocks it.
        own_process: whether the client needs a process of its own, because the fault sends it signals.
    """

    name: ClassVar[str]
    family: ClassVar[str]
    moment: ClassVar[Moment] = "talk"
    own_loop: ClassVar[bool] = False
    own_process: ClassVar[bool] = False

    def __init_subclass__(cls, *, name: str, family: str, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        cls.name = name
        cls.family = family
        registry[name] = cls

    def impossible(self, client: str) -> str | None:  # noqa: ARG002 - for those who need something
        """Tell what keeps this fault from being staged; as a rule nothing.

        Args:
            client: the client's name.

        Returns:
            Why it cannot be staged with this client on this platform, or None.
        """
        return None

    async def due(self, scene: Scene) -> bool:  # noqa: ARG002 - for those who wait for something
        """Wait for what makes the fault strike; as a rule nothing more.

        Args:
            scene: where.

        Returns:
            Whether it strikes; where not, the experiment has no fault.
        """
        return True

    @abstractmethod
    async def strike(self, scene: Scene) -> None:
        """Do it; the experiment records the moment just before.

        Args:
            scene: where.
        """

    def knobs(self) -> dict[str, Any]:
        """Read the knobs.

        Returns:
            Their values by name.
        """
        assert dataclasses.is_dataclass(self)
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def __str__(self) -> str:
        assert dataclasses.is_dataclass(self)
        turned = [
            f"{field.name}={getattr(self, field.name)!r}"
            for field in dataclasses.fields(self)
            if getattr(self, field.name) != field.default
        ]
        return f"{self.name}({', '.join(turned)})" if turned else self.name

    @property
    def about(self) -> str:
        """What this fault is, what travels on the wire, what causes it in life, and what to look for."""
        return f"{self}, of the family {self.family}\n\n{inspect.getdoc(self)}"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:  # noqa: ARG002
        # The name of a fault in a cell is answered with what it is. (`_repr_pretty_` would come behind the `__repr__`
        # that each dataclass has of its own.)
        return {"text/plain": self.about}


def find_fault(fault: str | Fault) -> Fault:
    """Find a fault.

    Args:
        fault: a name, for the fault with its default knobs; or a fault itself.

    Returns:
        The fault.

    Raises:
        UnknownName: there is none of this name.
    """
    if isinstance(fault, Fault):
        return fault
    if isinstance(fault, type) and issubclass(fault, Fault) and not inspect.isabstract(fault):
        return fault()
    return find("fault", fault, registry)()


#: Codes that RFC 6455 (section 7.4.1) reserves: an endpoint reports them, no frame carries them.
_NEVER_SENT = {1005: "no code was in the Close frame", 1006: "there was no Close frame", 1015: "TLS failed"}


def check_close(code: int, reason: str) -> None:
    """Refuse what a Close frame may not carry (RFC 6455, sections 5.5 and 7.4; the IANA registry of close codes).

    Args:
        code: the close code.
        reason: the reason.

    Raises:
        BadValue: the code may not be sent; or the reason is not text, or longer than 123 bytes.
    """
    if is_whole(code) and code in _NEVER_SENT:
        raise BadValue(f"code {code} is never on the wire: it is how an endpoint reports that {_NEVER_SENT[code]}")
    if not is_whole(code) or not ((1000 <= code <= 1014 and code != 1004) or 3000 <= code <= 4999):
        raise BadValue(f"code={code!r} may not be sent; the codes are 1000-1003, 1007-1014 and 3000-4999")
    length = len(check_text("the reason", reason))
    if length > 123:
        raise BadValue(f"the reason has {length} bytes; a Close frame holds 123 at most")
