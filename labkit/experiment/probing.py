"""Plays several faults against one server of any kind, and tells in a table what it did."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from labkit.clients import OWN
from labkit.errors import BadValue
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

__all__ = ["columns", "probe"]


def columns() -> list[str]:
    """The head of the table."""
    return ["fault", "answered", "Close", "TCP", "the other client"]


async def probe(
    target: Any,
    faults: Iterable[str | Fault] | None = None,
    *,
    allow_remote: bool = False,
    progress: bool | None = None,
    **play_options: Any,
) -> list[dict[str, str]]:
    """Play faults against one server, one after the other, each with two clients, of which it strikes the first.

    Args:
        target: a URL, or what ``labkit.process`` gives.
        faults: the faults; all that can be staged with a server elsewhere, if None.
        allow_remote: whether the server may be on another machine.
        progress: whether to show a progress bar; if None, only in a terminal.
        play_options: options of ``labkit.play``.

    Returns:
        A row for each fault: what the server did, by the names of ``columns``.

    Raises:
        BadValue: the target is no server of its own, or a fault is out of reach there.
        LabError: as for ``labkit.play``.
    """
    server = find_target(target, allow_remote=allow_remote)
    if not isinstance(server, Elsewhere | Process):
        raise BadValue(f"{target!r} is no server that listens; give its URL, such as 'ws://127.0.0.1:8000/'")
    client = play_options.get("client", OWN)
    chosen = [*map(find_fault, faults)] if faults is not None else [f for f in FAULTS.values() if _fits(f, client)]
    rows = []
    with bar(len(chosen), shown=progress) as steps:
        for fault in chosen:
            rows.append(_row(await play(server, fault=fault, clients=2, **play_options)))
            steps.update(1)
    return rows


def _fits(fault: Fault, client: str) -> bool:
    return fault.needs not in {"server", "own loop"} and fault.moment != "handshake" and not fault.impossible(client)


def _row(run: Run) -> dict[str, str]:
    verdict = run.verdict
    assert verdict.reaction is not None
    if verdict.struck is False:
        return dict(
            zip(columns(), (run.fault, *_did(verdict.reaction)[:1], "it was over before", "–", "–"), strict=True)
        )
    return dict(zip(columns(), (run.fault, *_did(verdict.reaction), _others(verdict)), strict=True))


def _others(verdict: Verdict) -> str:
    """What became of the client that the fault did not strike."""
    other = verdict.others[0] if verdict.others else None
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
