"""What a stack is: a server library with its settings, by name."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import socket
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Final

from labkit.errors import BadOption, UnknownName
from labkit.watch.host import Host

__all__ = ["RunningServer", "Stack", "registry"]

#: Every stack's class, by name.
registry: dict[str, type[Stack]] = {}


#: Turns of the loop until a client that was accepted has its protocol; one is enough.
_TURNS: Final = 3


class RunningServer(ABC):
    """A server that listens on loopback.

    Attributes:
        url: its address, such as ``"ws://127.0.0.1:4711/"``.
        sockets: its listening sockets.
    """

    url: str

    @property
    @abstractmethod
    def sockets(self) -> Iterable[socket.socket]:
        """The listening sockets."""

    async def stop_accepting(self) -> None:
        """Accept no more clients, and begin to serve those that have been accepted.

        When a server closes, asyncio does not close a client that it has accepted and not begun to serve.
        """
        loop = asyncio.get_running_loop()
        for sock in self.sockets:
            with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):  # not every loop waits for sockets
                loop.remove_reader(sock.fileno())
        for _ in range(_TURNS):
            await asyncio.sleep(0)

    @abstractmethod
    async def shut_down(self) -> None:
        """Shut down in the library's own way, for as long as that takes."""

    @abstractmethod
    async def stop(self) -> None:
        """Close the listening socket and every connection. By then the handlers have ended, or refuse to end."""


class Stack(ABC):
    """A server library with its settings.

    Attributes:
        name: the stack's name.
        distribution: the library's name on PyPI.
        argument: the library's name for the one argument of a handler.
        function: the library's function that takes the options, by the name that a reader knows.
        telltales: names that only the argument of this library's handlers has: who uses them on that of another
            library has written for this one.
    """

    name: ClassVar[str]
    distribution: ClassVar[str]
    argument: ClassVar[str]
    function: ClassVar[str]
    telltales: ClassVar[frozenset[str]]

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        registry[cls.name] = cls

    @property
    def library(self) -> str:
        """The library's name and installed version."""
        return f"{self.distribution} {importlib.metadata.version(self.distribution)}"

    @abstractmethod
    def option_names(self) -> Iterable[str]:
        """List the keyword arguments that :meth:`start` passes on to the library."""

    @abstractmethod
    async def start(self, host: Host, options: Mapping[str, Any]) -> RunningServer:
        """Start a server on loopback, on a free port, as it runs in production.

        Args:
            host: calls the handler.
            options: keyword arguments for the library's function.

        Returns:
            The server, listening.
        """

    def check_options(self, options: Mapping[str, Any]) -> None:
        """Refuse an option that the library does not take.

        Args:
            options: keyword arguments for the library's function.

        Raises:
            BadOption: the first wrong option; the message lists the right names.
        """
        names = set(self.option_names())
        for option in options:
            if option in {"host", "port", "sock"}:
                raise BadOption(f"{option!r} is the lab's to set: a server listens on 127.0.0.1, on a free port")
            if option not in names:
                raise BadOption(str(UnknownName(f"{self.function} option", option, names)))

    def __repr__(self) -> str:
        summary = (type(self).__doc__ or "").splitlines()[0].replace("``", "")
        return f"<stack {self.name}: {summary}>"
