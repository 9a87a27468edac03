"""Plays one experiment: sets up the server, the wire and the client, runs the scenario, and leaves nothing behind."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from contextvars import ContextVar
from dataclasses import replace
from functools import partial
from typing import Any, Final

from labkit.clients import OWN, check_client, make_client, make_request
from labkit.connections import Connections
from labkit.errors import BadValue
from labkit.events import HandlerBlocked
from labkit.experiment.clocks import AUTOJUMP, accounting, check_clock, on_autojump, why_real
from labkit.experiment.elsewhere import Elsewhere
from labkit.experiment.hosting import check_target, end_experiment, host
from labkit.experiment.path import Path
from labkit.experiment.processes import Process
from labkit.experiment.run import Run
from labkit.experiment.scenario import run_scenario
from labkit.experiment.talk import Function
from labkit.experiment.target import find_target
from labkit.experiment.unseen import play_elsewhere
from labkit.experiment.when import THROUGH, When, check_seen, check_when
from labkit.faults import Fault
from labkit.faults.fault import find_fault
from labkit.introspection.helpers import belongs_to_no_loop
from labkit.stacks import find_stack
from labkit.stacks.server import Server
from labkit.stacks.threads import in_own_loop, run_in_own_loop
from labkit.support.autojump import ClockName
from labkit.support.checks import check_seconds, check_text, is_whole
from labkit.support.clock import scaled
from labkit.support.descriptors import descriptors_for, enough_descriptors
from labkit.support.interrupts import cancel_on_interrupt
from labkit.support.loop import check_loop
from labkit.timeline import Timeline
from labkit.watch.block import take_part
from labkit.watch.handler import check_handler
from labkit.wire import Relay

__all__ = ["check_values", "in_company", "play", "when_blocked"]

#: What a client sends if nothing else is said.
MESSAGES: Final = ("hello",)

#: Where others are played in the same loop, which a handler that blocks must not hold up twice: what is called in place
#: of playing it again.
in_company: Final[ContextVar[Callable[[], None] | None]] = ContextVar("labkit_in_company", default=None)

#: What is called, in any thread, for each step in which the handler keeps its loop, while an experiment is played.
when_blocked: Final[ContextVar[Callable[[HandlerBlocked], None] | None]] = ContextVar(
    "labkit_when_blocked", default=None
)


async def play(
    target: Any,
    on: str = "aiohttp",
    fault: str | Fault | None = "reset",
    *,
    messages: Sequence[str | bytes] = MESSAGES,
    talk: Function | None = None,
    when: When = THROUGH,
    path: str = "/",
    headers: Mapping[str, str] | None = None,
    subprotocols: Sequence[str] = (),
    cookies: Mapping[str, str] | None = None,
    clock: ClockName = "real",
    patience: float = 2.0,
    clients: int = 1,
    client: str = OWN,
    client_options: Mapping[str, Any] | None = None,
    allow_remote: bool = False,
    **server_options: Any,
) -> Run:
    """Run one experiment: a client connects, sends its messages one after the other, and then the fault strikes.

    Each message is sent, and the fault strikes, when the handler is through with all before it: when it waits for the
    next message, and all that it has sent has arrived. A handler that answers from another task, or from a thread, is
    waited for too; so is one that takes long. Where nothing shows whether an answer will come, as in a stream without
    an end, the fault strikes when the patience is over, and the verdict says that this is unknown. If the handler still
    runs when the patience is over, the lab stops it.

    If there are several clients, all connect and send their messages, and the fault strikes the connection of the first
    alone, unless it strikes the server. The others then send their messages once more, and stay: ``run.connections``
    tells what became of each. Somebody else who connects during the experiment, such as a port scan, is not struck.

    Server, wire and client share the running loop. If the handler keeps it for itself for a while, the experiment is
    played once more with wire and client in another thread, whose times are then those of a client elsewhere; so the
    handler is called twice. So is a talk, if all that it names are functions, classes, modules and constants. Another
    talk may belong to the running loop, and stays in it. So does every client where the time jumps, or where the lab
    had to end the handler. Then the verdict says that the client's times are unknown.

    Args:
        target: a handler: a coroutine function, exactly as the library wants it; or an application: on aiohttp, a
            function without arguments that makes a ``web.Application``; or the name of one of these, such as
            ``"package.module:make_app"``. Of an application, the lab watches the handler of the path. Or a server of
            its own: its URL, such as ``"ws://127.0.0.1:8000/ws"``, or what ``labkit.process`` gives. Of such a one, the
            verdict knows what client and wire have seen; the rest is unknown.
        on: the stack's name, one of ``labkit.STACKS``.
        fault: a fault, or a name in ``labkit.FAULTS``; None for a client that stays.
        messages: what the client sends, ``str`` as text and ``bytes`` as binary.
        talk: the client's own conversation, in place of messages: a coroutine function whose argument has the coroutine
            methods ``send(message)``, ``recv()`` and ``close(code, reason)``, whichever library the client is written
            with. They raise ``ConnectionError`` when the connection is over. The fault strikes when it returns; if it
            raises an exception before, the fault does not strike, and the verdict tells the exception. Each client has
            a call of its own.
        when: when the fault strikes: ``"through"``; ``"note: TEXT"``, when the handler has called ``labkit.note`` with
            this text; a number of seconds from the handler's start, times ``LABKIT_TIME_SCALE``; ``labkit.Await(n)``,
            when the handler suspends for the nth time; or ``labkit.Frame(n)``, when n frames have passed the wire, and
            the next has not. Where the moment is a step of the handler, the handler goes on only when the fault has had
            its effect, so the same fault at the same step finds the same handler. Messages that have not been sent by
            then are not sent; a talk goes on. If the moment never comes, no fault strikes, and the verdict tells why.
        path: the path for which each client asks, perhaps with a query, such as ``"/chat?room=1"``.
        headers: headers of the request of each client, by name, beyond those of the handshake itself.
        subprotocols: the subprotocols that each client offers. Where the library's function takes them too, as
            ``serve`` does, the server supports the same.
        cookies: the cookies that each client has for the server, by name.
        clock: ``"real"``, or ``"autojump"`` for a run that does not wait: it has a loop of its own, in a thread, on
            real sockets, whose time jumps to the next timer when nothing else can happen. All times of the run, and the
            patience, are in the loop's time; the system's own timers, such as TCP's, do not jump. What else the handler
            waits for holds the time: a thread, a child process, a connection to another program. Where a client has a
            process of its own, where a fault blocks the server's loop, and where the user's own files, or a class of a
            package that they name, read another clock, such as ``time.monotonic()``, the run has the real one;
            ``run.clock`` tells which it had, and the text why. What belongs to the running loop, such as a pool of
            connections, cannot be used in the other one.
        patience: how long the handler may take for each message, and from the fault to its end, and how long a talk may
            do nothing with its client, in seconds, times ``LABKIT_TIME_SCALE``.
        clients: how many clients connect, 1 or more.
        client: the client's name: ``"labkit"`` for the lab's own client; ``"aiohttp"`` or ``"websockets"`` for a client
            written with that library.
        client_options: keyword arguments for the library's own function (``ws_connect``, ``connect``).
        allow_remote: whether a URL may be that of another machine, which a fault would disturb.
        server_options: keyword arguments for the library's own function (``AppRunner``, ``serve``).

    Returns:
        The run.

    Raises:
        UnknownName: there is no such stack, fault or client.
        BadHandler: the target is neither a handler nor an application; or it is one, and has no handler for the path.
        BadOption: the library does not take an option.
        BadValue: another value is wrong, or the fault cannot be staged with this client, or not at this moment.
        NotReached: nobody listens at the URL.
        LabError: no loop of asyncio runs the caller; or the process has too few file descriptors for an experiment.
    """
    target = find_target(target, allow_remote=allow_remote)
    elsewhere = isinstance(target, Elsewhere | Process)
    stack = find_stack(on) if elsewhere else check_target(target, on, server_options)
    chosen = None if fault is None else find_fault(fault)
    check_values(messages, patience, clients, talk)
    check_when(when, chosen)
    request = make_request(path, headers, subprotocols, cookies)
    if not isinstance(client_options, Mapping | None):
        raise BadValue(f"client_options={client_options!r}; it takes a mapping, such as {{'ping_interval': 20}}")
    given = dict(client_options or {})
    own_process = chosen is not None and chosen.needs == "own process"
    check_client(client, given, own_process=own_process, request=request)
    if chosen is not None and (why := chosen.impossible(client)) is not None:
        raise BadValue(f"{chosen} cannot be staged: {why}")
    check_loop()
    check_clock(clock)
    if elsewhere:
        run = await play_elsewhere(
            *(target, chosen, messages, talk, when, request),
            patience=patience,
            clients=clients,
            client=client,
            client_options=given,
            server_options=server_options,
        )
        return run if clock == "real" else replace(run, clock_words="the server is another program")
    if request.subprotocols and "subprotocols" in stack.option_names():
        server_options = {"subprotocols": list(request.subprotocols), **server_options}
    real = why_real((target, talk), chosen) if clock == AUTOJUMP else ""

    own_loop = chosen is not None and chosen.needs == "own loop"
    tell = when_blocked.get()

    async def talk_with(server: Server, connections: Connections) -> None:
        timeline = server.timeline
        take_part(timeline)
        async with AsyncExitStack() as cleanup:
            if chosen is not None:
                chosen.check_plain(server.url)
                check_seen(when, server.url)
            wire = await cleanup.enter_async_context(Relay(server.url, timeline=timeline))
            paths = []
            for number in range(1, clients + 1):
                # A fault that needs a process strikes the first alone.
                apart = own_process and number == 1
                played = make_client(
                    client, wire.url, timeline, given, own_process=apart, number=number, request=request
                )
                cleanup.push_async_callback(played.stop)
                paths.append(Path(played, wire, server, connections, talk))
            # Entered last, so left first: the lab stops the handler while the connection is still as the fault left it.
            cleanup.push_async_callback(_stop, server, paths, scaled(patience))
            scenario = run_scenario(paths, chosen, () if talk else messages, scaled(patience), when)
            await server.blocks.unless_ended(scenario, scaled(patience))

    async def stage(*, apart: bool = False) -> Run:
        timeline = _make_timeline(tell)
        connections = Connections(timeline)
        async with AsyncExitStack() as cleanup:
            cleanup.enter_context(enough_descriptors(descriptors_for(clients)))
            cleanup.enter_context(cancel_on_interrupt())
            account = cleanup.enter_context(accounting(timeline))
            serve = partial(host, target, on, path=request.path, timeline=timeline, closely=None, **server_options)
            server = await cleanup.enter_async_context(in_own_loop(serve) if own_loop else serve())
            account.server = server
            await (
                run_in_own_loop(partial(talk_with, server, connections)) if apart else talk_with(server, connections)
            )
        connections.finish()
        name, clock_name = "none" if chosen is None else str(chosen), AUTOJUMP if real is None else "real"
        return Run(server.handler, on, name, timeline, clock_name, account.words or real or "")

    if real is None:
        return await on_autojump(stage)
    run = await stage()
    moves = talk is None or belongs_to_no_loop(talk)
    if own_loop or own_process or not moves or not _blocks_for_a_while(run) or not stack.runs_again(target):
        return run
    if (put_off := in_company.get()) is not None:
        put_off()
        return run
    again = await stage(apart=True)
    # One that blocks at its first call alone, such as for an import, is told as it was.
    return again if _blocks_for_a_while(again) else run


def _make_timeline(tell: Callable[[HandlerBlocked], None] | None) -> Timeline:
    timeline = Timeline()

    def look() -> None:
        [event] = timeline.recorded(len(timeline) - 1)[:1]
        if isinstance(event, HandlerBlocked) and tell is not None:
            tell(event)

    if tell is not None:
        timeline.subscribe(look)
    return timeline


def check_values(messages: object, patience: object, clients: object = 1, talk: object = None) -> None:
    """Refuse wrong messages, a wrong talk, a wrong patience and a wrong number of clients.

    Args:
        messages: what the client will send.
        patience: seconds.
        clients: how many clients.
        talk: the client's own conversation; None if it sends messages.

    Raises:
        BadHandler: the talk is not a coroutine function of one argument.
        BadValue: one of the others is wrong, or both a talk and messages are given.
    """
    if talk is not None:
        check_handler(talk, "client", "talk")
        if messages != MESSAGES:
            raise BadValue("both talk= and messages= are given; a client with a talk sends what the talk sends")
    if isinstance(messages, str | bytes) or not isinstance(messages, Sequence):
        raise BadValue(f"messages={messages!r}; it takes a sequence of messages, such as ('hello',)")
    for number, message in enumerate(messages, 1):
        if not isinstance(message, str | bytes):
            raise BadValue(f"the message {message!r} is neither str (a text message) nor bytes (a binary one)")
        if isinstance(message, str):
            check_text(f"message {number}", message)
    check_seconds("patience", patience)
    if not is_whole(clients) or clients < 1:
        raise BadValue(f"clients={clients!r}; it takes a whole number from 1")


def _blocks_for_a_while(run: Run) -> bool:
    """Whether a handler has kept the loop that it shares with client and wire, whose times are then its own doing."""
    blocks = run.timeline.until_stop().all(HandlerBlocked)
    return bool(blocks) and not any(block.ended for block in blocks)


async def _stop(server: Server, paths: Sequence[Path], patience: float) -> None:
    """End the experiment. The lab causes what the handlers do after this; for a stranger, nobody waits."""
    served = {number for path in paths for number in path.served}
    await end_experiment(server, patience, served)
    await server.abort(keep=served)
