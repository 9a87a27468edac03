"""Which cells a matrix has; and all that is wrong with what it was given, told before anything runs."""

from __future__ import annotations

import inspect
import pickle
import sys
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

from labkit.clients import check_client
from labkit.errors import BadHandler, BadValue, UnknownName
from labkit.experiment import check_values, play
from labkit.faults import FAULTS, Fault, find_fault
from labkit.outcome import Cell
from labkit.servers import STACKS, Handler, Stack, check, find_stack, name_of

__all__ = ["Handlers", "Job", "check_executor", "plan"]

#: What ``matrix`` takes: handlers by their own names, by given names, or one for each library.
Handlers = Sequence[Handler] | Mapping[str, Handler | Mapping[str, Handler]]

#: The options of ``play`` that are not the library's.
_PLAYS_OWN: Final = frozenset(
    name for name, parameter in inspect.signature(play).parameters.items() if parameter.kind is parameter.KEYWORD_ONLY
)


@dataclass(frozen=True)
class Job:
    """What one cell is to play.

    Attributes:
        cell: the cell, still without a verdict.
        handler: the function.
        fault: the fault.
    """

    cell: Cell
    handler: Handler
    fault: Fault


def plan(
    handlers: Handlers,
    on: str | Iterable[str] | None,
    faults: str | Fault | Iterable[str | Fault] | None,
    options: Mapping[str, Any],
) -> list[Job]:
    """List the cells, stack by stack, handler by handler.

    Args:
        handlers: those of :func:`labkit.matrix`.
        on: the stacks; all, if None.
        faults: the faults; all, if None.
        options: what every ``play`` gets.

    Returns:
        The jobs; what was named twice is played once.

    Raises:
        LabError: something is wrong with what was given.
    """
    named = _named(handlers)
    names = dict.fromkeys(STACKS if on is None else [on] if isinstance(on, str) else _list("on", on, "stacks"))
    stacks = [find_stack(name) for name in names]
    given = [faults] if isinstance(faults, str | Fault | type) else faults
    struck = [find_fault(fault) for fault in (FAULTS if given is None else _list("faults", given, "faults"))]
    jobs = [
        Job(Cell(name, stack.name, fault.family, str(fault)), handler, fault)
        for stack in stacks
        for name, by_stack in named.items()
        if (handler := _serving(by_stack, stack)) is not None
        for fault in {str(fault): fault for fault in struck}.values()
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


def _named(handlers: Handlers) -> dict[str, Handler | Mapping[str, Handler]]:
    """Give each handler its name."""
    if callable(handlers):
        raise BadHandler(f"matrix takes a list of handlers, such as [{name_of(handlers)}]")
    if isinstance(handlers, str | bytes) or not isinstance(handlers, Iterable):
        raise BadHandler(f"matrix takes a list of handlers, or a mapping from names to handlers; this is {handlers!r}")
    if isinstance(handlers, Mapping):
        named: dict[str, Any] = {str(name): handler for name, handler in handlers.items()}
    else:
        named = {}
        for handler in handlers:
            if not callable(handler):
                check(handler, next(iter(STACKS)), {})  # which says so in its own words
            if named.setdefault(name_of(handler), handler) is not handler:
                raise BadHandler(
                    f"there are two handlers of the name {name_of(handler)!r};"
                    f" give a mapping: {{{name_of(handler)!r}: …, 'another name': …}}"
                )
    if not named:
        raise BadValue("there are no handlers; matrix takes one or more")
    for name, handler in named.items():
        if isinstance(handler, Mapping):
            known = {key for stack in STACKS.values() for key in (stack.name, stack.distribution)}
            for key in handler:
                if key not in known:
                    raise UnknownName("stack", key, known)
            if not handler:
                raise BadHandler(f"{name!r} has no handler; give one for each library, such as {{'aiohttp': …}}")
    return named


def _serving(handler: Handler | Mapping[str, Handler], stack: Stack) -> Handler | None:
    """Choose the handler for a stack: that for the stack, or that for its library."""
    if isinstance(handler, Mapping):
        return handler.get(stack.name, handler.get(stack.distribution))
    return handler


def _check(jobs: Sequence[Job], options: dict[str, Any]) -> None:
    """Refuse what ``play`` would refuse in every cell."""
    servers = {name: value for name, value in options.items() if name not in _PLAYS_OWN}
    for job in {(job.cell.handler, job.cell.stack): job for job in jobs}.values():
        check(job.handler, job.cell.stack, servers)
    defaults = {name: inspect.signature(play).parameters[name].default for name in _PLAYS_OWN}
    own = defaults | options
    check_values(own["messages"], own["patience"])
    check_client(own["client"], dict(own["client_options"] or {}))


def check_executor(executor: Executor | None, jobs: Sequence[Job], options: Mapping[str, Any]) -> None:
    """Refuse what cannot be sent to another process.

    Args:
        executor: where the cells are to be played; None for here.
        jobs: the cells.
        options: what every ``play`` gets.

    Raises:
        BadValue: the executor is not a pool of processes, or an option cannot be sent.
        BadHandler: a handler cannot be imported there.
    """
    if executor is None:
        return
    if not isinstance(executor, ProcessPoolExecutor):
        raise BadValue(
            f"executor={executor!r}; it takes a concurrent.futures.ProcessPoolExecutor, or None for the running loop"
        )
    for job in jobs:
        name = job.cell.handler
        # A notebook has no file that another process could import.
        homeless = getattr(job.handler, "__module__", None) == "__main__" and not hasattr(
            sys.modules["__main__"], "__file__"
        )
        try:
            pickle.dumps(job.handler)
        except Exception:
            homeless = True
        if homeless:
            raise BadHandler(
                f"another process cannot import the handler {name!r}; define it in a module, at the top level"
            )
        try:
            pickle.dumps((job.fault, dict(options)))
        except Exception as problem:
            raise BadValue(f"the options cannot be sent to another process: {problem}") from None
