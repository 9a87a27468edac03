"""What an exercise is: a goal, handlers to start from and to end with, hints, and rules that tell which is which."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from labkit.experiment import Run
from labkit.faults import Fault

__all__ = ["Exercise", "Finding", "Handler", "Rule", "State", "Trial", "source_of"]

Handler = Callable[..., Coroutine[Any, Any, Any]]

#: What a rule says of a run. What the events do not settle is unknown.
State = Literal["kept", "broken", "unknown"]


class Finding(NamedTuple):
    """What a rule says of one run.

    Attributes:
        state: kept, broken or unknown.
        evidence: the events that show it, with their times, in a clause.
    """

    state: State
    evidence: str


@dataclass(frozen=True)
class Trial:
    """A way to play the handler.

    Attributes:
        fault: a fault, or the name of one; None for a client that stays.
        messages: what the client sends.
        patience: how long the handler may take, in seconds, times ``LABKIT_TIME_SCALE``.
        answered: whether the handler is to answer each message before the fault.
        trap: whether the handler may fail before the fault, and a rule has the word on it.
        options: keyword arguments for the library's own function.
    """

    fault: str | Fault | None
    messages: tuple[str, ...] = ("hello", "again")
    patience: float = 2.0
    answered: bool = True
    trap: bool = False
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Rule:
    """Something that a handler has to keep.

    Attributes:
        name: a short name.
        says: the rule in the learner's terms, one sentence.
        trials: how the handler is played for it.
        test: what a run says of it.
        stacks: the stacks on which it holds; all of the exercise, if None.
    """

    name: str
    says: str
    trials: tuple[Trial, ...]
    test: Callable[[Run], Finding]
    stacks: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Exercise:
    """Something to write, and how to tell whether it is right.

    Attributes:
        name: what ``labkit.check`` takes.
        notebook: the number of its notebook, such as ``"02"``.
        title: a few words.
        goal: what to write, for the learner.
        starter: the handler to start from; it breaks a rule.
        solution: one that keeps all of them.
        hints: a nudge, a direction, and nearly the answer.
        stacks: where it is played.
        rules: what a handler has to keep.
        wrong: handlers that people write, each with the name of the rule that it breaks.
        given: makes, of a handler that takes more than the connection, one that the library can call; a new one for
            each run, with what it is given around it.
    """

    name: str
    notebook: str
    title: str
    goal: str
    starter: Handler
    solution: Handler
    hints: tuple[str, str, str]
    stacks: tuple[str, ...]
    rules: tuple[Rule, ...]
    wrong: Mapping[Handler, str]
    given: Callable[[Handler], AbstractAsyncContextManager[Handler]] | None = None

    @property
    def starter_source(self) -> str:
        """The starter as a cell of a notebook has it: ``my_handler``."""
        return source_of(self.starter, "my_handler")

    @property
    def solution_source(self) -> str:
        """The solution as a cell of a notebook has it: ``my_handler``."""
        return source_of(self.solution, "my_handler")

    def __repr__(self) -> str:
        return f"<exercise {self.name}, notebook {self.notebook}: {self.title}>"


def source_of(handler: Handler, name: str) -> str:
    """Read a handler's source, without the types of its signature.

    Args:
        handler: a function in a file of the lab's.
        name: what to call it.

    Returns:
        The source, without a newline at the end.
    """
    source = textwrap.dedent(inspect.getsource(handler)).strip()
    head, colon, body = source.partition(":\n")
    parameters = ", ".join(inspect.signature(handler).parameters)
    assert re.match(r"async def \w+\(", head), head
    return f"async def {name}({parameters}){colon}{body}"
