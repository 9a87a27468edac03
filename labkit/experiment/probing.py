"""Plays several faults against one server of any kind, and tells in a table what it did."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from labkit.clients import OWN
from labkit.errors import BadValue, NotReached
from labkit.experiment.elsewhere import Elsewhere
from labkit.experiment.play import play
from labkit.experiment.processes import Process
from labkit.experiment.run import Run
from labkit.experiment.target import find_target
from labkit.faults import FAULTS, Fault
from labkit.faults.fault import find_fault
from labkit.reaction import Reaction
from labkit.support.progress_bar import bar
from labkit.support.wording import describe_seconds
from labkit.verdict import Verdict

__all__ = ["Probed", "columns", "probe"]


def columns() -> list[str]:
    """The head of the table."""
    return ["fault", "answered", "Close", "TCP", "the other client"]


@dataclass(frozen=True)
class Probed:
    """What a server did with one fault.

    Attributes:
        fault: the fault, as a run prints it.
        run: the run; None if a fault before has ended the server.
    """

    fault: str
    run: Run | None = None

    @property
    def row(self) -> dict[str, str]:
        """Its row of the table, by the names of ``columns``."""
        did = ("no", "the server is gone", "–", "–") if self.run is None else _what_it_did(self.run.verdict)
        return dict(zip(columns(), (self.fault, *did), strict=True))


async def probe(
    target: Any,
    faults: Iterable[str | Fault] | None = None,
    *,
    allow_remote: bool = False,
    progress: bool | None = None,
    **play_options: Any,
) -> list[Probed]:
    """Play faults against one server, one after the other, each with two clients, of which it strikes the first.

    Args:
        target: a URL, or what ``labkit.process`` gives.
        faults: the faults; all that can be staged with a server elsewhere, if None.
        allow_remote: whether the server may be on another machine.
        progress: whether to show a progress bar; if None, only in a terminal.
        play_options: options of ``labkit.play``.

    Returns:
        For each fault, what the server did.

    Raises:
        BadValue: the target is no server of its own, or a fault is out of reach there.
        NotReached: nobody listens there, or the server refuses the first client. What a server does so after a fault is
            told in the rows.
        LabError: as for ``labkit.play``.
    """
    server = find_target(target, allow_remote=allow_remote)
    if not isinstance(server, Elsewhere | Process):
        raise BadValue(f"{target!r} is no server that listens; give its URL, such as 'ws://127.0.0.1:8000/'")
    client = play_options.get("client", OWN)
    chosen = [*map(find_fault, faults)] if faults is not None else [f for f in FAULTS.values() if _fits(f, client)]
    probed: list[Probed] = []
    with bar(len(chosen), shown=progress) as steps:
        for fault in chosen:
            try:
                run = await play(server, fault=fault, clients=2, **play_options)
                if not probed:
                    _check_served(server, run)
                probed.append(Probed(run.fault, run))
            except NotReached:
                if not probed:
                    raise
                probed.append(Probed(str(fault)))
            steps.update(1)
    return probed


def _check_served(server: Elsewhere | Process, run: Run) -> None:
    """Refuse a server that has refused a client before any fault: it would do so each time."""
    reaction = run.verdict.reaction
    if reaction is not None and reaction.refused:
        raise NotReached(
            f"{server.name} refused the client: {reaction.refused}; is this the path of its WebSocket, and does it ask"
            " for a header, a cookie or a subprotocol?"
        )


def _fits(fault: Fault, client: str) -> bool:
    return fault.needs not in {"server", "own loop"} and fault.moment != "handshake" and not fault.impossible(client)


def _what_it_did(verdict: Verdict) -> tuple[str, str, str, str]:
    assert verdict.reaction is not None
    if verdict.reaction.refused:
        return "no", f"refused: {verdict.reaction.refused}", "–", "–"
    if verdict.struck is False:
        return "yes" if verdict.reaction.answered else "no", "it was over before", "–", "–"
    return *_did(verdict.reaction), _others(verdict)


def _others(verdict: Verdict) -> str:
    """What became of the client that the fault did not strike."""
    other = verdict.others[0] if verdict.others else None
    if other is not None and other.reaction is not None and other.reaction.refused:
        return f"refused: {other.reaction.refused}"
    if other is not None and other.reaction is not None and other.reaction.tcp is not None:
        return "dropped by the server"
    answered = None if other is None else other.answered
    return {"yes": "still answered", "no": "no longer answered"}.get(answered or "", "unknown")


def _did(reaction: Reaction) -> tuple[str, str, str]:
    """Whether it had answered, its Close frame, and what it did with TCP."""
    late = f"none in {describe_seconds(reaction.watched)}"
    if reaction.closed_after is not None:
        close = f"{reaction.close_text.removeprefix('Close ')} after {describe_seconds(reaction.closed_after)}"
    else:
        close = "cannot be seen" if reaction.cut and reaction.tcp is None else "none" if reaction.tcp else late
    if reaction.tcp is not None and reaction.tcp_after is not None:
        tcp = f"{reaction.tcp} after {describe_seconds(reaction.tcp_after)}"
    else:
        tcp = "cut" if reaction.cut else f"open after {describe_seconds(reaction.watched)}"
    return "yes" if reaction.answered else "no", close, tcp
