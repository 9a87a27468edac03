"""The tests that rules share. Each test judges one run: kept, broken or unknown, with the evidence."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from itertools import pairwise
from typing import Final

from labkit.events import (
    CleanupClosing,
    CleanupTruncated,
    ClientRecv,
    ClientRefused,
    ClientSend,
    Event,
    HandlerCancelled,
    HandlerNote,
    HandlerSend,
    ResourceEvent,
)
from labkit.exercises.exercise import Ruling
from labkit.exercises.punctual import stood_still
from labkit.exercises.summary import Summary, milliseconds
from labkit.experiment.run import Run
from labkit.support.clock import scaled
from labkit.timeline import Events

__all__ = [
    "answers",
    "answers_after",
    "broken",
    "cleans_up",
    "closes",
    "ends",
    "kept",
    "leaves_nothing",
    "notes",
    "passes",
    "passes_in_cleanup",
    "quiet",
    "stays",
    "within",
]


def broken(evidence: str) -> Ruling:
    """Return the ruling that a rule is broken."""
    return Ruling("broken", evidence)


def kept(evidence: str) -> Ruling:
    """Return the ruling that a rule is kept."""
    return Ruling("kept", evidence)


def answers(run: Run) -> Ruling:
    """Each message of the client comes back before the fault, in order. Other messages may come too."""
    summary = Summary(run)
    until = summary.fault.at if summary.fault else float("inf")
    sent = [event for event in summary.events.all(ClientSend) if event.at < until]
    received = [event for event in summary.events.all(ClientRecv) if event.at < until]
    if not sent:
        refused = summary.events.first(ClientRefused)
        if refused and summary.start:
            return broken(f"{refused.text}; {summary.ended}")
        if summary.end is not None:
            return broken(f"{summary.ended}, before the client could say a word")
        return Ruling("unknown", summary.ended)
    if summary.fault is None and run.fault != "none" and summary.end is not None:
        return broken(f"{_messages(len(received))} came back, and {summary.ended}, before the client was through")
    rest = iter(received)
    for message in sent:
        if not any(answer.text == message.text for answer in rest):
            had = f"{summary.listed(received)} came back" if received else "nothing came back"
            return broken(f"the client sent {message.text} at {summary.at(message)}; {had}, and {summary.ended}")
    return kept(f"{_messages(len(sent))}, each back by {summary.at(received[-1])}")


def answers_after(run: Run) -> Ruling:
    """Each message that the client sends after the fault comes back, in order."""
    summary = Summary(run)
    if summary.fault is None:
        # A handler that ended before the fault cannot answer any more.
        return Ruling("unknown" if summary.end is None else "broken", f"the fault did not strike: {summary.ended}")
    sent = list(summary.after_the_fault.all(ClientSend))
    if not sent:
        return Ruling("unknown", f"{summary.struck}; the client said nothing after it")
    received = list(summary.after_the_fault.all(ClientRecv))
    rest = iter(received)
    for message in sent:
        if not any(answer.text == message.text for answer in rest):
            had = f"{summary.listed(received)} came back" if received else "no answer came"
            return broken(
                f"{summary.struck}, and the client sent {message.text} at {summary.at(message)}; {had}, and "
                f"{summary.ended}"
            )
    return kept(f"{summary.struck}; then {_messages(len(sent))}, each back by {summary.at(received[-1])}")


def closes(number: int, *, in_one_go: bool = False) -> Callable[[Run], Ruling]:
    """Make the test that all resources are closed completely before the handler ends.

    Args:
        number: how many resources have to be open when the fault strikes.
        in_one_go: whether a closing that is cut short breaks the rule even if the handler closes the resource again,
            and one that begins a second time before the first is through.

    Returns:
        The test.
    """

    def test(run: Run) -> Ruling:
        summary, cleanup = Summary(run), run.verdict.cleanup
        lives: dict[int, list[ResourceEvent]] = {}
        for event in summary.events.all(ResourceEvent):
            lives.setdefault(event.id, []).append(event)
        if summary.start is None:
            return Ruling("unknown", summary.ended)
        if elsewhere := [life[0] for life in lives.values() if life[0].kind != "open"]:
            name = f"`{elsewhere[0].text}`"
            return broken(f"{name} was opened elsewhere: let your handler open one for each client; {summary.ended}")
        if not lives:
            return broken(f"your handler opened no resource: there was nothing to give back; {summary.ended}")
        if len(lives) < number:
            return broken(f"your handler opened {_resources(len(lives))}, not {number}; {summary.ended}")
        if in_one_go and cleanup == "complete" and (cut := summary.events.first(CleanupTruncated)):
            again = f"the closing of `{cut.text}` was cut short at {summary.at(cut)}, and had to begin again"
            return broken(f"{summary.struck}; {again}: what is half closed may not bear that")
        if in_one_go and (second := _closing_at_once(list(lives.values()))):
            again = f"the closing of `{second.text}` began again at {summary.at(second)}, in the middle of the first"
            return broken(f"{summary.struck}; {again}: what is half closed may not bear that")
        # The evidence names the resource whose cleanup went worst.
        lasts = [life[-1] for life in lives.values()]
        kinds = {"truncated": ["truncated"], "missing": ["open"], "outlived": ["closing", "closed"]}
        for kind in kinds.get(cleanup, ["closing", "closed"]):
            if worst := [event for event in lasts if event.kind == kind]:
                return _closed(summary, cleanup, max(worst, key=lambda event: event.at), list(lives.values()), number)
        return Ruling("unknown", f"{summary.struck}; {summary.ended}")

    return test


#: The same for one resource.
cleans_up: Final = closes(1)


def _closed(summary: Summary, cleanup: str, last: Event, lives: Sequence[Sequence[Event]], number: int) -> Ruling:
    name = f"`{last.text}`"
    match cleanup:
        case "complete" if summary.end is None:
            # A handler that never ends is broken too: the library still holds its connection.
            return broken(f"{summary.struck}; {name} was closed at {summary.at(last)}, but {summary.ended}")
        case "complete":
            fault = summary.fault
            if fault is not None and sum(_open_at(life, fault) for life in lives) < number:
                when = f"{summary.struck}, when {_number_open(lives, fault)} open"
                proof = "so this run does not show whether your handler closes them"
                return Ruling("unknown", f"{when}, {proof}; open them first of all, and keep them open")
            return kept(f"{summary.struck}; {name} was closed at {summary.at(last)}, and {summary.ended}")
        case "truncated":
            return broken(
                f"{summary.struck}; the closing of {name} was cut short at {summary.at(last)}; {summary.ended}"
            )
        case "missing":
            return broken(f"{summary.struck}; {summary.ended}, and the closing of {name} never began")
        case "outlived" if last.kind == "closed":
            late = f"when {name} was still open: it was closed only at {summary.at(last)}"
            return broken(f"{summary.struck}; {summary.ended}, {late}")
        case "outlived":
            return broken(f"{summary.struck}; {summary.ended}, when {name} was not closed, nor was it later")
        case _:
            return Ruling("unknown", f"{summary.struck}; {name} was still closing {summary.waited} later", late=True)


def _closing_at_once(lives: Sequence[Sequence[Event]]) -> Event | None:
    """Find the first closing that begins in the middle of another one of the same resource."""
    pairs = [pair for life in lives for pair in pairwise(life)]
    twice = [second for first, second in pairs if isinstance(first, CleanupClosing) and first.kind == second.kind]
    return min(twice, key=lambda event: event.at, default=None)


def _open_at(life: Sequence[Event], fault: Event) -> bool:
    return life[0].at <= fault.at and (life[-1].kind == "open" or life[-1].at >= fault.at)


def _number_open(lives: Sequence[Sequence[Event]], fault: Event) -> str:
    count = sum(_open_at(life, fault) for life in lives)
    return f"only {_resources(count)} {'was' if count == 1 else 'were'}" if count else "no resource was"


def ends(*endings: str) -> Callable[[Run], Ruling]:
    """Make the test that the handler ends in one of some ways.

    Args:
        endings: the ways that are right: ``"returned"``, ``"cancelled"``, ``"raised"``.

    Returns:
        The test.
    """
    wanted = " or ".join(endings)

    def test(run: Run) -> Ruling:
        summary = Summary(run)
        if run.verdict.ending == "unknown":
            return Ruling("unknown", summary.ended)
        good = run.verdict.ending in endings
        return (
            kept(f"{summary.struck}; {summary.ended}")
            if good
            else broken(f"{summary.struck}; {summary.ended}, not {wanted}")
        )

    return test


def passes(run: Run) -> Ruling:
    """A handler that is cancelled ends as cancelled; one that nobody cancels returns.

    Of the cancels, those of the fault and of the server's library count. After a Close, aiohttp cancels a handler when
    the connection ends; one that has ended before is right too.
    """
    return _passes(run, since_closing=False)


def passes_in_cleanup(run: Run) -> Ruling:
    """The same; but after a Close, a cancel has to pass only once the cleanup has begun.

    ``asyncio.wait_for`` of Python 3.11 keeps a cancel that comes at the moment when it is through.
    """
    summary = Summary(run)
    return _passes(run, since_closing=summary.fault is not None and summary.fault.family == "closing")


def _passes(run: Run, *, since_closing: bool) -> Ruling:
    summary = Summary(run)
    end = summary.end
    cancels = _from_outside(summary, summary.after_the_fault)
    closing = summary.after_the_fault.first(CleanupClosing)
    due = [c for c in cancels if not since_closing or closing is None or c.at > closing.at]
    if end is None:
        return Ruling("unknown", f"{summary.struck}; {summary.ended}")
    if end.ending == "cancelled" and not cancels:
        return broken(f"{summary.struck}; no cancel came from outside, and {summary.ended}")
    if due and end.ending != "cancelled":
        cancelled = f"it was {due[0].text} at {summary.at(due[0])}"
        return broken(f"{summary.struck}; {cancelled}, and {summary.ended}, not cancelled")
    told = f"it was {cancels[0].text} at {summary.at(cancels[0])}" if cancels else "no cancel came from outside"
    return kept(f"{summary.struck}; {told}, and {summary.ended}")


def _from_outside(summary: Summary, events: Events) -> list[HandlerCancelled]:
    """The cancels among events that the handler does not owe to itself, up to its end."""
    library = None if summary.start is None else summary.start.library.partition(" ")[0]
    end = summary.end
    return [
        cancel
        for cancel in events.all(HandlerCancelled)
        if cancel.package in {None, library, "labkit"} and (end is None or cancel.at <= end.at)
    ]


def within(seconds: float) -> Callable[[Run], Ruling]:
    """Make the test that the handler ends within a time after the fault.

    If the client stops reading, a handler can notice it only when a ``send()`` waits. The sends before that one only
    filled the buffers, as fast as the machine allowed. Therefore, the time starts at the handler's last ``send()``.

    Args:
        seconds: the longest time in seconds, multiplied by ``LABKIT_TIME_SCALE``.

    Returns:
        The test.
    """

    def test(run: Run) -> Ruling:
        summary, bound = Summary(run), scaled(seconds)
        if summary.start is None or summary.fault is None:
            return Ruling("unknown", f"the fault did not strike; {summary.ended}")
        began, struck = summary.fault.at, summary.struck
        sends = list(summary.after_the_fault.all(HandlerSend))
        if sends and summary.fault_class is not None and summary.fault_class.fills_buffers:
            began = sends[-1].at
            struck += f", and your last send() began at {summary.at(sends[-1])}"
        if summary.end is None:
            over = (summary.stop or run.timeline[-1]).at
            evidence = f"{summary.struck}; {summary.ended}, and was to end within {milliseconds(bound)}"
            return Ruling("broken", evidence, sure=over - began - stood_still(run, began, over) > bound)
        took = summary.end.at - began
        late = stood_still(run, began, summary.end.at)
        if took > bound + late:
            return broken(f"{struck}; {summary.ended}, {milliseconds(took)} later, not {milliseconds(bound)}")
        if took > bound:  # a loop that is busy with others may be late for this handler too, or it is late by itself
            still = f"of which the loop stood still for {milliseconds(late)}"
            return Ruling("unknown", f"{struck}; {summary.ended}, {milliseconds(took)} later, {still}", late=True)
        return kept(f"{struck}; {summary.ended}, {milliseconds(took)} later")

    return test


def stays(run: Run) -> Ruling:
    """The handler still runs at the end of the experiment, since its client stays."""
    summary = Summary(run)
    if summary.start is None:
        return Ruling("unknown", summary.ended)
    if summary.end is None:
        return kept(f"{summary.struck}; {summary.ended}")
    return broken(f"{summary.struck}, but {summary.ended}")


def notes(*texts: str, never: Collection[str] = ()) -> Callable[[Run], Ruling]:
    """Make the test that the handler notes some texts, each once and in order. It may note other texts too.

    Args:
        texts: the texts with which the handler has to call ``labkit.note``.
        never: the texts that it must not note.

    Returns:
        The test.
    """
    wanted = " and ".join(f'"{text}"' for text in texts)

    def test(run: Run) -> Ruling:
        summary = Summary(run)
        noted = list(summary.events.all(HandlerNote))
        noted_texts = summary.listed(noted, quote='"')
        if [event.text for event in noted if event.text in {*texts, *never}] != list(texts):
            return broken(f"{summary.struck}; your handler noted {noted_texts}, not {wanted}; {summary.ended}")
        if summary.end is None:
            evidence = f"your handler noted {noted_texts}, and may yet note more: {summary.ended}"
            return Ruling("unknown", f"{summary.struck}; {evidence}")
        return kept(f"{summary.struck}; your handler noted {noted_texts}")

    return test


def quiet(run: Run) -> Ruling:
    """The handler raises no exception, and nothing is logged from WARNING up. A cancel from outside may pass."""
    summary, verdict = Summary(run), run.verdict
    if verdict.ending == "unknown":
        return Ruling("unknown", summary.ended)
    if verdict.ending == "raised":
        return broken(f"{summary.struck}; {summary.ended}: an exception came out of your handler")
    meant = summary.fault_class is not None and summary.fault_class.ends in {"handler", "server"}  # by a limit, say
    if verdict.ending == "cancelled" and not meant and not _from_outside(summary, summary.events):
        return broken(f"{summary.struck}; no cancel came from outside, and {summary.ended}: its own cancel came out")
    if verdict.complaints:
        return broken(f"{summary.struck}; {summary.ended}, and the log has: {verdict.complaints[0]}")
    if summary.end is None:
        return Ruling("unknown", f"{summary.struck}; {summary.ended}, and nothing has come out of it yet")
    return kept(f"{summary.struck}; {summary.ended}, and nobody complained")


def leaves_nothing(run: Run) -> Ruling:
    """Nothing is left of what the handler has started and opened, nor the socket of its connection."""
    summary, left = Summary(run), run.verdict.leaked
    if left:
        return broken(f"{summary.struck}; {summary.ended}, and left behind: {', '.join(left)}")
    fault = summary.fault_class
    if summary.start is not None and summary.end is None and fault is not None and fault.demands == "end":
        return Ruling("unknown", f"{summary.struck}; {summary.ended}, so it has left nothing yet")
    return kept(f"{summary.struck}; {summary.ended}, and nothing was left")


def _messages(number: int) -> str:
    return f"{number} message{'s' * (number != 1)}"


def _resources(number: int) -> str:
    return f"{number} resource{'s' * (number != 1)}"
