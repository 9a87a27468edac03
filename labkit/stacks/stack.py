"""What a stack is: a server library with its settings, by name."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import importlib.metadata
import importlib.util
import inspect
import socket
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from ssl import SSLContext
from typing import Any, ClassVar, Final

from labkit.errors import BadHandler, BadOption, NotInstalled, UnknownName
from labkit.support.descriptors import check_descriptor
from labkit.support.wording import describe_exception
from labkit.watch.handler import check_handler, name_of
from labkit.watch.host import Host

__all__ = ["Program", "RunningServer", "Stack", "make_app", "registry"]

#: Every stack's class, by name.
registry: dict[str, type[Stack]] = {}


#: Looked up once: reading it from the disk took a twentieth of an experiment, and what is imported does not change.
_find_version: Final = functools.cache(importlib.metadata.version)

#: Turns of the loop until a client that was accepted has its protocol; one is enough.
_TURNS: Final = 3


@dataclass(frozen=True)
class Program:
    """What a server runs: a handler, perhaps in an application.

    Attributes:
        handler: what is called for each connection, and watched.
        app: the application in which it stands; None if the lab puts it into one, or if the library has none.
    """

    handler: Callable[[Any], Any]
    app: Any = None


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
        interface: what a handler is written for; the stacks that share it run the same handlers.
        usual: whether a matrix plays a handler on this stack if it does not say on which.
        extra: the extra of labkit that brings the packages of this stack; "" if labkit itself does.
        needs: the modules of that extra without which this stack does not run.
        also: other packages that belong to the library, such as a framework between it and the handler.
    """

    name: ClassVar[str]
    distribution: ClassVar[str]
    argument: ClassVar[str]
    function: ClassVar[str]
    telltales: ClassVar[frozenset[str]]
    interface: ClassVar[str]
    usual: ClassVar[bool] = True
    extra: ClassVar[str] = ""
    needs: ClassVar[tuple[str, ...]] = ()
    also: ClassVar[frozenset[str]] = frozenset()

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        registry[cls.name] = cls

    @property
    def library(self) -> str:
        """The library's name and installed version.

        Raises:
            OSError: no file descriptor is left to read it.
        """
        try:
            return f"{self.distribution} {_find_version(self.distribution)}"
        except importlib.metadata.PackageNotFoundError:
            check_descriptor()  # Python takes what it cannot open for what is not there
            raise

    @property
    def missing(self) -> str:
        """What to install so that it runs, as a sentence; "" if nothing is missing."""
        missing = [name for name in self.needs if importlib.util.find_spec(name) is None]
        if not missing:
            return ""
        return f"the stack {self.name} needs {' and '.join(missing)}: pip install 'labkit[{self.extra}]'"

    def check_installed(self) -> None:
        """Refuse to run without the packages of an extra.

        Raises:
            NotInstalled: the message says what to install.
        """
        if missing := self.missing:
            raise NotInstalled(missing)

    @abstractmethod
    def option_names(self) -> Iterable[str]:
        """List the keyword arguments that :meth:`start` passes on to the library."""

    def check_target(self, target: Any) -> None:
        """Refuse what this stack cannot run, before anything of it runs.

        Args:
            target: a handler; or an application, or what makes one, where the library has applications.

        Raises:
            BadHandler: it is neither.
        """
        check_handler(target, self.argument)

    def runs_again(self, target: Any) -> bool:  # noqa: ARG002 - an application may run once
        """Tell whether a target that has run can run once more.

        Args:
            target: what ``check_target`` has let pass.
        """
        return True

    async def load(self, target: Any, path: str) -> Program:  # noqa: ARG002 - an application has routes
        """Make what the server will run.

        Args:
            target: what ``check_target`` has let pass.
            path: the path for which the clients will ask, which decides which of an application's handlers is watched.

        Returns:
            The handler, and its application.

        Raises:
            BadHandler: no application was made, or it has no handler for this path.
        """
        return Program(target)

    @abstractmethod
    async def start(self, host: Host, options: Mapping[str, Any], app: Any = None) -> RunningServer:
        """Start a server on loopback, on a free port, as it runs in production.

        Args:
            host: calls the handler.
            options: keyword arguments for the library's function.
            app: the application that ``load`` has made, if it has.

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
        names = set(self.option_names()) if options else set()  # to ask a library takes as long as to start its server
        for option in options:
            if option in {"host", "port", "sock"}:
                raise BadOption(f"{option!r} is the lab's to set: a server listens on 127.0.0.1, on a free port")
            if option not in names:
                raise BadOption(str(UnknownName(f"{self.function} option", option, names)))
        if not isinstance(options.get("ssl"), SSLContext | None):
            raise BadOption(f"ssl={options['ssl']!r}; it takes an ssl.SSLContext with the server's certificate")

    def __repr__(self) -> str:
        summary = (type(self).__doc__ or "").splitlines()[0].replace("``", "")
        return f"<stack {self.name}: {summary}>"


async def make_app(maker: Callable[[], Any]) -> Any:
    """Call a function that is to make an application, and await what it gives.

    Args:
        maker: the function, of either kind.

    Returns:
        What it has made; the stack looks whether that is an application.

    Raises:
        BadHandler: the function has raised an exception.
    """
    try:
        made = maker()
        return await made if inspect.isawaitable(made) else made
    except Exception as error:
        raise BadHandler(
            f"{name_of(maker)}(), which shall make the application, raised {describe_exception(error)}"
        ) from error
