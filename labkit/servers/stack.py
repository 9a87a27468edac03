"""What a stack is: a server library with its settings, by name."""

from __future__ import annotations

import importlib.metadata
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from labkit.errors import BadOption, UnknownName
from labkit.servers.calls import Host

__all__ = ["RunningServer", "Stack"]


class RunningServer(ABC):
    """A server that listens on loopback.

    Attributes:
        url: its address, such as ``"ws://127.0.0.1:4711/"``.
    """

    url: str

    @abstractmethod
    async def shut_down(self) -> None:
        """Shut down as the library does it, for as long as that takes."""

    @abstractmethod
    async def stop(self) -> None:
        """Close the listening socket and every connection; the handlers have ended by then, or refuse to."""


class Stack(ABC):
    """A server library with its settings.

    Attributes:
        name: the stack's name.
        distribution: the library's name on PyPI.
        argument: what the library calls a handler's one argument.
        function: the library's function that takes the options, as a reader knows it.
    """

    name: ClassVar[str]
    distribution: ClassVar[str]
    argument: ClassVar[str]
    function: ClassVar[str]

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
            BadOption: the first that is wrong, with the names that are right.
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
