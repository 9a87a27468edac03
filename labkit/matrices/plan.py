"""The cells of a matrix, and the checks of its arguments. Everything wrong is reported before any cell is played."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from labkit.clients import check_client, make_request
from labkit.errors import BadHandler, BadValue, UnknownName
from labkit.experiment.hosting import check_target
from labkit.experiment.play import check_values, play
from labkit.experiment.target import find_here, is_by_library
from labkit.experiment.when import check_when
from labkit.faults import FAULTS, Fault
from labkit.faults.fault import find_fault
from labkit.outcome import Cell
from labkit.stacks import STACKS, find_stack
from labkit.stacks.stack import Stack
from labkit.support.autojump import CLOCKS
from labkit.support.checks import check_choice
from labkit.watch.handler import name_of

__all__ = ["Handlers", "Planned", "plan"]

#: What ``matrix`` accepts: targets under their own names, under given names, or one target for each library.
Handlers = Sequence[Any] | Mapping[str, Any | Mapping[str, Any]]

#: The options of ``play`` itself; all other options are for the library.
_PLAY_OPTIONS: Final = frozenset(
    name for name, parameter in inspect.signature(play).parameters.items() if parameter.kind is parameter.KEYWORD_ONLY
)


@dataclass(frozen=True)
class Planned:
    """The experiment of one cell.

    Attributes:
        cell: the cell, still without a verdict.
        handler: the handler to play, or the application.
        fault: the fault that strikes it.
    """

    cell: Cell
    handler: Any
    fault: Fault


def plan(
    handlers: Handlers,
    on: str | Iterable[str] | None,
    faults: str | Fault | Iterable[str | Fault] | None,
    options: Mapping[str, Any],
) -> list[Planned]:
    """List the cells, stack by stack, handler by handler.

    Args:
        handlers: the handlers, as for :func:`labkit.matrix`.
        on: the stacks; all that are usual if None, and those whose names a mapping has.
        faults: the faults; all if None.
        options: the options for every ``play``.

    Returns:
        The jobs. A stack or a fault that is named twice is played once.

    Raises:
        LabError: an argument is wrong.
    """
    named = _named(handlers)
    names = dict.fromkeys(STACKS if on is None else [on] if isinstance(on, str) else _list("on", on, "stacks"))
    stacks = [find_stack(name) for name in names]
    listed = [faults] if isinstance(faults, str | Fault | type) else faults
    to_strike = [find_fault(fault) for fault in (FAULTS if listed is None else _list("faults", listed, "faults"))]
    jobs = [
        Planned(Cell(name, stack.name, fault.family, str(fault)), handler, fault)
        for stack in stacks
        for name, by_stack in named.items()
        if (handler := _serving(by_stack, stack, named=on is not None)) is not None
        for fault in {str(fault): fault for fault in to_strike}.values()
    ]
    if not jobs:
        raise BadValue(f"none of the handlers is for {' or '.join(names)}")
    _check(jobs, dict(options))
    return jobs


def _list(name: str, given: Iterable[Any], what: str) -> list[Any]:
    if not isinstance(given, Iterable):
        raise BadValue(f"{name}={given!r}; it takes a list of {what}, or None for all")
    if not (listed := list(given)):
        raise BadValue(f"{name} is empty; it takes one of the {what} or more, or None for all")
    return listed


def _named(handlers: Handlers) -> dict[str, Any]:
    """Give each handler its name."""
    if callable(handlers):
        raise BadHandler(f"matrix takes a list of handlers, such as [{name_of(handlers)}]")
    if isinstance(handlers, str | bytes) or not isinstance(handlers, Iterable):
        raise BadHandler(f"matrix takes a list of handlers, or a mapping from names to handlers; this is {handlers!r}")
    if isinstance(handlers, Mapping):
        named: dict[str, Any] = {str(name): _found(handler) for name, handler in handlers.items()}
    else:
        named = {}
        for given in handlers:
            handler = _here(given)
            if not callable(handler):
                check_target(handler, next(iter(STACKS)), {})  # raises BadHandler with a precise message
            if named.setdefault(name_of(handler), handler) is not handler:
                raise BadHandler(
                    f"there are two handlers of the name {name_of(handler)!r};"
                    f" give a mapping: {{{name_of(handler)!r}: …, 'another name': …}}"
                )
    if not named:
        raise BadValue("there are no handlers; matrix takes one or more")
    for name, handler in named.items():
        if is_by_library(handler):
            known = {key for stack in STACKS.values() for key in (stack.name, stack.interface)}
            for key in handler:
                if key not in known:
                    raise UnknownName("stack", key, known)
            if not handler:
                raise BadHandler(f"{name!r} has no handler; give one for each library, such as {{'aiohttp': …}}")
    return named


def _found(handler: Any) -> Any:
    """Find what a name leads to; or each of the names, where there is one for each library."""
    if is_by_library(handler):
        return {key: _here(each) for key, each in handler.items()}
    return _here(handler)


def _here(target: Any) -> Any:
    return find_here(target, "`labkit probe URL` plays the faults against it")


def _serving(handler: Any, stack: Stack, *, named: bool) -> Any:
    """Choose the handler for a stack: the one under the stack's own name, or else the one for its library."""
    if not (named or stack.usual):
        return handler.get(stack.name) if is_by_library(handler) else None
    if is_by_library(handler):
        return handler.get(stack.name, handler.get(stack.interface))
    return handler


def _check(jobs: Sequence[Planned], options: dict[str, Any]) -> None:
    """Refuse the arguments that ``play`` would refuse in every cell."""
    server_options = {name: value for name, value in options.items() if name not in _PLAY_OPTIONS}
    for job in {(job.cell.handler, job.cell.stack): job for job in jobs}.values():
        check_target(job.handler, job.cell.stack, server_options)
    defaults = {name: inspect.signature(play).parameters[name].default for name in _PLAY_OPTIONS}
    play_options = defaults | options
    check_values(*(play_options[name] for name in ("messages", "patience", "clients", "talk")))
    check_choice("clock", play_options["clock"], CLOCKS)
    for job in {job.fault.moment: job for job in jobs if job.fault.moment != "handshake"}.values():
        check_when(play_options["when"], job.fault)
    request = make_request(*(play_options[name] for name in ("path", "headers", "subprotocols", "cookies")))
    check_client(play_options["client"], dict(play_options["client_options"] or {}), request=request)
