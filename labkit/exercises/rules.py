"""Tests that rules share: each looks at one run, and says kept, broken or unknown, with the evidence."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Final

from labkit.clock import scaled
from labkit.exercises.exercise import Finding
from labkit.exercises.story import Story, milliseconds
from labkit.experiment import Run
from labkit.timeline import Event

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
    "quiet",
    "stays",
    "within",
]


def broken(evidence: str) -> Finding:
    """Make the finding that a rule is broken."""
    return Finding("broken", evidence)


def kept(evidence: str) -> Finding:
    """Make the finding that a rule is kept."""
    return Finding("kept", evidence)


def answers(run: Run) -> Finding:
    """Each message of the client comes back before the fault, in order; what else comes does no harm."""
    story = Story(run)
    until = story.fault.at if story.fault else float("inf")
    sent = [event for event in story.all("client", "send") if event.at < until]
    came = [event for event in story.all("client", "recv") if event.at < until]
    if not sent:
        refused = story.first("client", "refused")
        return broken(f"{refused.text}; {story.ended}") if refused and story.start else Finding("unknown", story.ended)
    if story.fault is None and run.fault != "none" and story.end is not None:
        return broken(f"{_messages(len(came))} came back, and {story.ended}, before the client was through")
    answers = iter(came)
    for message in sent:
        if not any(answer.text == message.text for answer in answers):
            had = f"{story.listed(came)} came back" if came else "nothing came back"
            return broken(f"the client sent {message.text} at {story.at(message)}; {had}, and {story.ended}")
    return kept(f"{_messages(len(sent))}, each back by {story.at(came[-1])}")


def answers_after(run: Run) -> Finding:
    """A message that comes after the fault is echoed."""
    story = Story(run)
    if story.fault is None:
        # A handler that ended by itself, before the fault, answers nothing any more.
        return Finding("unknown" if story.end is None else "broken", f"the fault did not strike: {story.ended}")
    said = next(story.after_the_fault("client", "send"), None)
    if said is None:
        return Finding("unknown", f"{story.struck}; the client said nothing after it")
    came = next((event for event in story.after_the_fault("client", "recv") if event.text == said.text), None)
    if came is None:
        return broken(f"{story.struck}, and the client spoke at {story.at(said)}; no answer came, and {story.ended}")
    return kept(f"the client spoke at {story.at(said)} and had its answer at {story.at(came)}")


def closes(number: int) -> Callable[[Run], Finding]:
    """Make the test that so many resources, open when the fault strikes, are closed in full before the handler ends.

    Args:
        number: how many the handler is to have open.

    Returns:
        The test.
    """

    def test(run: Run) -> Finding:
        story, cleanup = Story(run), run.verdict.cleanup
        lives: dict[int, list[Event]] = {}
        for event in story.all("cleanup", "open", "closing", "closed", "truncated"):
            lives.setdefault(event.data["id"], []).append(event)
        if not lives:
            return broken(f"your handler opened no resource: there was nothing to give back; {story.ended}")
        if len(lives) < number:
            return broken(f"your handler opened {_resources(len(lives))}, not {number}; {story.ended}")
        # The resource that fared worst is the one to name: each has its own number.
        lasts = [life[-1] for life in lives.values()]
        kinds = {"truncated": ["truncated"], "missing": ["open"], "outlived": ["closing", "closed"]}
        for kind in kinds.get(cleanup, ["closing", "closed"]):
            if found := [event for event in lasts if event.kind == kind]:
                return _closed(story, cleanup, max(found, key=lambda event: event.at), list(lives.values()), number)
        return Finding("unknown", f"{story.struck}; {story.ended}")

    return test


#: The same for one resource.
cleans_up: Final = closes(1)


def _closed(story: Story, cleanup: str, last: Event, lives: Sequence[Sequence[Event]], number: int) -> Finding:
    name = f"`{last.text}`"
    match cleanup:
        case "complete" if story.end is None:
            # Nobody waits for the rest: a handler that never ends has not given back what the library holds for it.
            return broken(f"{story.struck}; {name} was closed at {story.at(last)}, but {story.ended}")
        case "complete":
            fault = story.fault
            if fault is not None and sum(_open_at(life, fault) for life in lives) < number:
                told = f"{story.struck}, when {_number_open(lives, fault)} open"
                return Finding("unknown", f"{told}: whether your handler closes what is, this run does not tell")
            return kept(f"{story.struck}; {name} was closed at {story.at(last)}, and {story.ended}")
        case "truncated":
            return broken(f"{story.struck}; the closing of {name} was cut short at {story.at(last)}; {story.ended}")
        case "missing":
            return broken(f"{story.struck}; {story.ended}, and the closing of {name} never began")
        case "outlived" if last.kind == "closed":
            return broken(
                f"{story.struck}; {story.ended}, when {name} was still open: it was closed only at {story.at(last)}"
            )
        case "outlived":
            return broken(f"{story.struck}; {story.ended}, when {name} was not closed, nor was it later")
        case _:
            return Finding("unknown", f"{story.struck}; {name} was still closing {story.waited} later")


def _open_at(life: Sequence[Event], fault: Event) -> bool:
    return life[0].at <= fault.at and (life[-1].kind == "open" or life[-1].at >= fault.at)


def _number_open(lives: Sequence[Sequence[Event]], fault: Event) -> str:
    count = sum(_open_at(life, fault) for life in lives)
    return f"only {_resources(count)} {'was' if count == 1 else 'were'}" if count else "no resource was"


def ends(*endings: str) -> Callable[[Run], Finding]:
    """Make the test that the handler ends in one of these ways.

    Args:
        endings: ``"returned"``, ``"cancelled"``, ``"raised"``.

    Returns:
        The test.
    """
    wanted = " or ".join(endings)

    def test(run: Run) -> Finding:
        story = Story(run)
        if run.verdict.ending == "unknown":
            return Finding("unknown", story.ended)
        good = run.verdict.ending in endings
        return (
            kept(f"{story.struck}; {story.ended}") if good else broken(f"{story.struck}; {story.ended}, not {wanted}")
        )

    return test


#: Faults that take effect when the buffers are full.
_FILLS: Final = {"stalled-reader"}


def within(seconds: float) -> Callable[[Run], Finding]:
    """Make the test that the handler ends at most so long after the fault.

    Of a client that no longer reads a handler can know when a ``send()`` is stuck: what has filled the buffers until
    then, as fast as the machine could, went well.

    Args:
        seconds: how long, times ``LABKIT_TIME_SCALE``.

    Returns:
        The test.
    """

    def test(run: Run) -> Finding:
        story, bound = Story(run), scaled(seconds)
        if story.start is None or story.fault is None:
            return Finding("unknown", f"the fault did not strike; {story.ended}")
        if story.end is None:
            return broken(f"{story.struck}; {story.ended}, and was to end within {milliseconds(bound)}")
        began, struck = story.fault.at, story.struck
        sends = list(story.after_the_fault("handler", "send"))
        if sends and story.fault.data["fault"] in _FILLS:
            began = sends[-1].at
            struck += f", and your last send() began at {story.at(sends[-1])}"
        took = story.end.at - began
        if took > bound:
            return broken(f"{struck}; {story.ended}, {milliseconds(took)} later, not {milliseconds(bound)}")
        return kept(f"{struck}; {story.ended}, {milliseconds(took)} later")

    return test


def stays(run: Run) -> Finding:
    """The handler serves a client that stays, to the end of the experiment."""
    story = Story(run)
    if story.start is None:
        return Finding("unknown", story.ended)
    if story.end is None:
        return kept(f"{story.struck}; {story.ended}")
    return broken(f"{story.struck}, but {story.ended}")


def notes(*texts: str, never: Collection[str] = ()) -> Callable[[Run], Finding]:
    """Make the test that the handler notes exactly these, in this order. What else it notes is its own affair.

    Args:
        texts: what ``labkit.note`` is to be called with.
        never: what it is not to be called with.

    Returns:
        The test.
    """
    wanted = " and ".join(f'"{text}"' for text in texts)

    def test(run: Run) -> Finding:
        story = Story(run)
        noted = list(story.all("handler", "note"))
        told = story.listed(noted, quote='"')
        if [event.text for event in noted if event.text in {*texts, *never}] != list(texts):
            return broken(f"{story.struck}; your handler noted {told}, not {wanted}; {story.ended}")
        if story.end is None:
            return Finding(
                "unknown", f"{story.struck}; your handler noted {told}, and may yet note more: {story.ended}"
            )
        return kept(f"{story.struck}; your handler noted {told}")

    return test


def quiet(run: Run) -> Finding:
    """No exception comes out of the handler, and nobody complains."""
    story, verdict = Story(run), run.verdict
    if verdict.ending == "unknown":
        return Finding("unknown", story.ended)
    if verdict.ending == "raised":
        return broken(f"{story.struck}; {story.ended}: an exception came out of your handler")
    if verdict.complaints:
        return broken(f"{story.struck}; {story.ended}, and the log has: {verdict.complaints[0]}")
    if story.end is None:
        return Finding("unknown", f"{story.struck}; {story.ended}, and nothing has come out of it yet")
    return kept(f"{story.struck}; {story.ended}, and nobody complained")


def leaves_nothing(run: Run) -> Finding:
    """No task is left when the handler, its server and its client are gone."""
    story, left = Story(run), run.verdict.leaked
    if left:
        return broken(f"{story.struck}; {story.ended}, and left behind: {', '.join(left)}")
    return kept(f"{story.struck}; {story.ended}, and nothing was left")


def _messages(number: int) -> str:
    return f"{number} message{'s' * (number != 1)}"


def _resources(number: int) -> str:
    return f"{number} resource{'s' * (number != 1)}"
