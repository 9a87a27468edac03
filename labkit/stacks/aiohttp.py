"""The stacks of aiohttp: its default, and with ``handler_cancellation=True``."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

from labkit.errors import BadHandler
from labkit.introspection.alone import leave_alone
from labkit.stacks.stack import Program, RunningServer, Stack, make_app
from labkit.support.clock import scaled
from labkit.support.sockets import port_of
from labkit.support.wording import describe_exception
from labkit.timeline import APPLICATION, Scope, scope
from labkit.watch.asked import IsOver
from labkit.watch.call import Call
from labkit.watch.handler import may_be_awaited, name_of
from labkit.watch.host import Host
from labkit.watch.stand_ins import Method

if TYPE_CHECKING:
    import socket

    from aiohttp import web

__all__ = ["Aiohttp", "AiohttpCancel"]

# The import of aiohttp takes 0.1 s and more. It is imported where it is used, since the other stacks do not need it.

_call: ContextVar[Call] = ContextVar("labkit_aiohttp_call")

#: The parameters that take any number of arguments.
_ANY_NUMBER = frozenset({inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD})

#: Seconds that the library may take to stop; after that the lab no longer waits.
_STOP = 2.0


#: Which values of its properties tell that a connection is over.
_OF_RESPONSE: Final[Mapping[str, IsOver]] = {
    "closed": lambda closed: closed is True,
    "close_code": lambda code: code is not None,
    "exception": lambda exception: exception is not None,
    "_closed": lambda closed: closed is True,
    "_closing": lambda closing: closing is True,
}

#: The same of a request and its protocol: after TCP is gone, aiohttp has no transport any more.
_OF_PROTOCOL: Final[Mapping[str, IsOver]] = {
    "transport": lambda transport: transport is None,
    "connected": lambda connected: connected is False,
}


def _protocol_of(request: Any) -> Any:
    return request._protocol  # noqa: SLF001 - a public property is what handlers are watched for


class Aiohttp(Stack):
    """aiohttp as ``web.run_app`` runs it: a handler is not cancelled when its client goes away."""

    name = "aiohttp"
    distribution = interface = "aiohttp"
    argument = "request"
    function = "AppRunner"
    telltales = frozenset({"match_info", "rel_url", "config_dict"})

    def option_names(self) -> Iterable[str]:
        """List the keyword arguments of ``AppRunner``, and of the classes to which it passes them."""
        from aiohttp import web
        from aiohttp.web_protocol import RequestHandler

        internal = {"self", "app", "handler", "manager", "loop", "kwargs", "request_factory"}
        classes = (web.AppRunner, web.BaseRunner, web.Server, RequestHandler)
        return {name for each in classes for name in inspect.signature(each).parameters} - internal

    def check_target(self, target: Any) -> None:
        """Refuse what is neither a handler, nor an application, nor a function without arguments that may make one."""
        if not _is_application(target) and not _may_make_one(target):
            super().check_target(target)

    def runs_again(self, target: Any) -> bool:
        """Tell whether it is no application itself, which is frozen when it has run."""
        return not _is_application(target)

    async def load(self, target: Any, path: str) -> Program:
        """Make the application, and find its handler for the path; a handler needs none."""
        if _is_application(target):
            return await _find(target, path, "the application")
        if not _may_make_one(target):
            return Program(target)
        maker, app = f"{name_of(target)}()", await make_app(target)
        if not _is_application(app):
            raise BadHandler(
                f"{maker} gave {app!r}, and a function without arguments is to make a web.Application; if it is to be a"
                f" handler, write it as: async def {name_of(target)}(request)"
            )
        return await _find(app, path, maker)

    async def start(self, host: Host, options: Mapping[str, Any], app: Any = None) -> RunningServer:
        """Start the application with ``AppRunner``; without one, an application that has the handler at every path."""
        from aiohttp import web

        async def call(request: web.Request) -> web.StreamResponse:
            response: web.StreamResponse = await host.call(request, ConnectionError, _call.set)
            return response

        leave_alone(app, *options.values())
        given = app
        if app is None:
            app = web.Application()
            app.router.add_get("/{path:.*}", call)
        app.on_response_prepare.append(_observe)
        runner = web.AppRunner(app, **options)
        await _set_up(runner, host)
        if given is not None:
            _stand_before(app, host, call)
        try:
            server = runner.server
            assert server is not None
            # As `TCPSite` does it, with a tap in front of each protocol.
            listener = await asyncio.get_running_loop().create_server(lambda: host.taps.make(server()), "127.0.0.1", 0)
        except BaseException:
            await runner.cleanup()
            raise
        return _Running(runner, listener)


class AiohttpCancel(Aiohttp):
    """aiohttp with ``handler_cancellation=True``: a handler is cancelled when its client's connection is lost."""

    name = "aiohttp-cancel"

    def option_names(self) -> Iterable[str]:
        """List the keyword arguments of ``AppRunner``, without the one that makes this stack."""
        return set(super().option_names()) - {"handler_cancellation"}

    async def start(self, host: Host, options: Mapping[str, Any], app: Any = None) -> RunningServer:
        """Start the application with ``handler_cancellation=True``."""
        return await super().start(host, {**options, "handler_cancellation": True}, app)


def _is_application(target: Any) -> bool:
    from aiohttp import web

    return isinstance(target, web.Application)


def _may_make_one(target: Any) -> bool:
    """Whether it can be called without arguments, and may return something; a handler takes the request."""
    if not callable(target) or inspect.isclass(target) or not may_be_awaited(target):
        return False
    try:
        parameters = inspect.signature(target).parameters.values()
    except (TypeError, ValueError):
        return False
    by_place = [each for each in parameters if each.kind in {each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD}]
    needed = [each for each in parameters if each.default is each.empty and each.kind not in _ANY_NUMBER]
    # `def main(argv=None)` makes an application; `async def handler(*args)` is somebody's wrapper around a handler.
    return not needed and (bool(by_place) or not any(each.kind is each.VAR_POSITIONAL for each in parameters))


async def _find(app: web.Application, path: str, what: str) -> Program:
    """Find the handler of a path, in the application or in one inside it."""
    from aiohttp.test_utils import make_mocked_request

    if app.frozen:
        raise BadHandler(f"{what} has run already, and runs once: give the function that makes it")
    found = await app.router.resolve(make_mocked_request("GET", path, {"Host": "127.0.0.1"}))
    if found.http_exception is not None:
        routes = sorted(
            {f"{route.method} {_path_of(route)}" for route in app.router.routes() if route.method != "HEAD"}
        )
        raise BadHandler(
            f"{what} has no handler for GET {path}: {found.http_exception.reason}; its routes are"
            f" {', '.join(routes) or 'none'}; give one as the path"
        )
    return Program(found.handler, app)


def _path_of(route: web.AbstractRoute) -> str:
    return "*" if route.resource is None else route.resource.canonical


def _stand_before(app: Any, host: Host, call: Callable[[web.Request], Any]) -> None:
    """Call an application's handler through the lab, behind every middleware, whichever application it stands in."""
    from aiohttp import web

    @web.middleware
    async def watched(request: web.Request, handler: Callable[[web.Request], Any]) -> web.StreamResponse:
        # Behind a middleware of an outer application, `handler` is not yet the route's own.
        own = handler is host.handler and handler is request.match_info.handler
        response: web.StreamResponse = await (call if own else handler)(request)
        return response

    each: Any
    for each in _with_inner(app):
        # `middlewares` itself cannot be changed any more: `add_subapp` freezes it. The first is called last.
        each._middlewares_handlers = ((watched, True), *each._middlewares_handlers)  # noqa: SLF001
        each._run_middlewares = True  # noqa: SLF001


def _with_inner(app: web.Application) -> Iterator[web.Application]:
    yield app
    for resource in app.router.resources():
        inner = resource.get_info().get("app")
        if inner is not None:
            yield from _with_inner(inner)


async def _set_up(runner: web.AppRunner, host: Host) -> None:
    """Start the application. What it prints, opens and starts is its own, for all connections."""
    token = scope.set(Scope(host.timeline, APPLICATION))
    try:
        await runner.setup()
    except Exception as error:
        await runner.cleanup()
        raise BadHandler(f"the application does not start: {describe_exception(error)}") from error
    finally:
        scope.reset(token)


class _Running(RunningServer):
    def __init__(self, runner: web.AppRunner, listener: asyncio.Server) -> None:
        self._runner = runner
        self._listener = listener
        self.url = f"ws://127.0.0.1:{port_of(listener)}/"

    @property
    def sockets(self) -> Iterable[socket.socket]:
        """The listening sockets."""
        return self._listener.sockets

    async def shut_down(self) -> None:
        self._listener.close()  # which `cleanup` would do with a site
        await self._runner.cleanup()

    async def stop(self) -> None:
        self._listener.close()
        server = self._runner.server
        for connection in server.connections if server is not None else ():
            connection.force_close()
        # The handlers should have ended. If one has not, aiohttp would wait for `shutdown_timeout`, which is a minute.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(scaled(_STOP)):
                await self._runner.cleanup()


def _received(call: Call, message: Any) -> None:
    from aiohttp import web

    if not isinstance(kind := getattr(message, "type", None), web.WSMsgType):
        # A class of the user's own may give anything, also to tell the end.
        if getattr(call.connection, "closed", False):
            call.record_notice(f"receive() gave {type(message).__name__}")
        elif message is not None:
            call.received(message)
    elif kind in {web.WSMsgType.TEXT, web.WSMsgType.BINARY}:
        call.received(message.data)
    elif kind is web.WSMsgType.PONG:
        call.pings.answered()
    elif kind in {web.WSMsgType.CLOSE, web.WSMsgType.CLOSING, web.WSMsgType.CLOSED}:
        call.record_notice(f"receive() gave {kind.name}")
    elif kind is web.WSMsgType.ERROR:
        call.record_notice("receive() gave ERROR", message.data)


def _sends_frame(call: Call, arguments: dict[str, Any]) -> None:
    from aiohttp import web

    opcode = arguments["opcode"]
    if opcode in {web.WSMsgType.TEXT, web.WSMsgType.BINARY}:
        call.sent(arguments["message"], web.WSMsgType(opcode).name)


_SENDS: Final = Method(on_call=lambda call, arguments: call.sent(arguments["data"]), parameters=("data",))

#: What the library tells the handler, and what the handler asks for, on its own connection.
#: `receive_str`, `async for`, `write_eof` and the methods for JSON call these.
_METHODS: Final = {
    "receive": Method(on_return=_received, waits_for="message"),
    "send_str": _SENDS,
    "send_bytes": _SENDS,
    "send_frame": Method(on_call=_sends_frame, parameters=("message", "opcode")),
    "ping": Method(),
    "pong": Method(),
    "drain": Method(),
    "close": Method(on_call=Call.closing, before=Call.before_close, parameters=("code", "message")),
}

#: The same where the handler gets the pongs, which the library takes for itself otherwise.
_METHODS_WITH_PONGS: Final = {
    **_METHODS,
    "receive": _METHODS["receive"]._replace(tells_cause=True),
    "ping": Method(on_return=lambda call, _: call.pings.sent()),
}


async def _observe(request: web.Request, response: web.StreamResponse) -> None:
    """Observe what the library tells the handler, on the handler's own connection (a signal of aiohttp)."""
    from aiohttp import web

    call = _call.get(None)
    if call is None or not isinstance(response, web.WebSocketResponse):
        return
    call.connect(response, _METHODS if getattr(response, "_autoping", True) else _METHODS_WITH_PONGS)
    call.observe_properties(response, _OF_RESPONSE)
    call.observe_properties(request.protocol, _OF_PROTOCOL)
    # A copy of the request has the same protocol.
    call.observe_properties(request, _OF_PROTOCOL, _protocol_of)
