"""What an exercise is: a goal, a starter, a solution, hints, and rules that tell right handlers from wrong ones."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from labkit.experiment.run import Run
from labkit.faults import Fault
from labkit.support.wrapping import wrap

__all__ = ["Exercise", "ExerciseHandler", "Rule", "RuleState", "Ruling", "Trial", "source_of"]

ExerciseHandler = Callable[..., Coroutine[Any, Any, Any]]

#: What a rule says about a run; unknown if the events do not show it.
RuleState = Literal["kept", "broken", "unknown"]


class Ruling(NamedTuple):
    """What a rule says about one run.

    Attributes:
        state: ``"kept"``, ``"broken"`` or ``"unknown"``.
        evidence: a clause with the events that show it, and their times.
        late: for an unknown: whether more time might settle it.
        sure: for a broken one: whether it would be, had the machine never held up the run.
    """

    state: RuleState
    evidence: str
    late: bool = False
    sure: bool = False


@dataclass(frozen=True)
class Trial:
    """One way to play the handler.

    Attributes:
        fault: a fault, or the name of one; None for a client that stays.
        messages: the client's messages.
        patience: how long the lab waits for the handler, in seconds, multiplied by ``LABKIT_TIME_SCALE``.
        answered: whether the handler has to answer a message before the fault; if it does not, that is a bug.
        trap: whether the handler may raise an exception before the fault. Then a rule judges it; it is not a bug.
        options: keyword arguments for the library's own function.
        stacks: the stacks on which it is played; all stacks of its rule if None.
    """

    fault: str | Fault | None
    messages: tuple[str, ...] = ("hello", "again")
    patience: float = 2.0
    answered: bool = True
    trap: bool = False
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    stacks: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Rule:
    """A rule that a handler has to keep.

    Attributes:
        name: a short name.
        says: the rule in one sentence, for the learner.
        trials: how to play the handler for it.
        test: judges a run.
        stacks: the stacks on which the rule applies; all stacks of the exercise if None.
    """

    name: str
    says: str
    trials: tuple[Trial, ...]
    test: Callable[[Run], Ruling]
    stacks: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Exercise:
    """A handler to write, and the rules that tell whether it is right.

    Attributes:
        name: the name that ``labkit.check`` accepts.
        notebook: the number of its notebook, such as ``"02"``.
        title: a few words.
        goal: what to write, for the learner.
        starter: the handler to start from; it breaks a rule.
        solution: a handler that keeps all rules.
        hints: three hints, from a small one to nearly the solution.
        stacks: the stacks on which the handler is played.
        rules: the rules that a handler has to keep.
        wrong: typical wrong handlers, each with the name of the rule that it breaks.
        given: for a handler that takes more arguments than the connection: a function that is called for each run. It
            returns an asynchronous context manager, which sets up the arguments and gives a handler that the library
            can call.
        works: whether the handler has work to do, which may keep the loop again and again for a moment.
    """

    name: str
    notebook: str
    title: str
    goal: str
    starter: ExerciseHandler
    solution: ExerciseHandler
    hints: tuple[str, str, str]
    stacks: tuple[str, ...]
    rules: tuple[Rule, ...]
    wrong: Mapping[ExerciseHandler, str]
    given: Callable[[ExerciseHandler], AbstractAsyncContextManager[ExerciseHandler]] | None = None
    works: bool = False

    @property
    def starter_source(self) -> str:
        """The starter as source for a notebook's cell, under the name ``my_handler``."""
        return source_of(self.starter, "my_handler")

    @property
    def solution_source(self) -> str:
        """The solution as source for a notebook's cell, under the name ``my_handler``."""
        return source_of(self.solution, "my_handler")

    def text(self, width: int = 80) -> str:
        """Tell what to write, on which stacks it is played, the rules, and the starter.

        Args:
            width: the longest line, in characters; code is not broken.

        Returns:
            The lines, without a newline at the end.
        """
        return "\n".join(
            [
                *wrap(f"{self.name}, notebook {self.notebook}: {self.title}", width),
                "",
                *wrap(self.goal, width),
                "",
                *wrap(f"It is played on {' and '.join(self.stacks)}. The rules:", width),
                *(line for rule in self.rules for line in wrap(f"- {rule.name}: {rule.says}", width, rest="  ")),
                "",
                "To start from:",
                "",
                self.starter_source,
            ]
        )

    def experiments(self, rule: Rule) -> list[tuple[str, Trial]]:
        """List how the handler is played for a rule: each stack with each trial, and last those of some stacks only."""
        everywhere = [trial for trial in rule.trials if trial.stacks is None]
        return [
            *((on, trial) for on in rule.stacks or self.stacks for trial in everywhere),
            *((on, trial) for trial in rule.trials for on in trial.stacks or ()),
        ]

    def __repr__(self) -> str:
        return f"<exercise {self.name}, notebook {self.notebook}: {self.title}>"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:  # noqa: ARG002
        # A cell that evaluates to an exercise displays the whole task. `_repr_pretty_` would not do: IPython prefers
        # the `__repr__` that each dataclass has.
        return {"text/plain": self.text()}


def source_of(handler: ExerciseHandler, name: str) -> str:
    """Read a handler's source, without the types of its signature.

    Args:
        handler: a function in one of the lab's files.
        name: the function's name in the result.

    Returns:
        The source, without a newline at the end.
    """
    source = textwrap.dedent(inspect.getsource(handler)).strip()
    signature, colon, body = source.partition(":\n")
    parameters = ", ".join(inspect.signature(handler).parameters)
    assert re.match(r"async def \w+\(", signature), signature
    return f"async def {name}({parameters}){colon}{body}"
