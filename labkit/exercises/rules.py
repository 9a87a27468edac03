"""Tests that rules share: each looks at one run, and says kept, broken or unknown, with the evidence."""

from __future__ import annotations

from collections.abc import Callable

from labkit.clock import scaled
from labkit.exercises.exercise import Finding
from labkit.exercises.story import Story, milliseconds
from labkit.experiment import Run

__all__ = ["answers", "answers_after", "cleans_up", "ends", "leaves_nothing", "notes", "quiet", "stays", "within"]


def broken(evidence: str) -> Finding:
    """Make the finding that a rule is broken."""
    return Finding("broken", evidence)


def kept(evidence: str) -> Finding:
    """Make the finding that a rule is kept."""
    return Finding("kept", evidence)


def answers(run: Run) -> Finding:
    """Each message of the client is answered before the fault."""
    story = Story(run)
    until = story.fault.at if story.fault else float("inf")
    sent = [event for event in story.all("client", "send") if event.at < until]
    came = [event for event in story.all("client", "recv") if event.at < until]
    if not sent:
        refused = story.first("client", "refused")
        return broken(f"{refused.text}; {story.ended}") if refused and story.start else Finding("unknown", story.ended)
    if story.fault is None and run.fault != "none" and story.end is not None:
        return broken(f"{_messages(len(came))} came back, and {story.ended}, before the client was through")
    if len(came) < len(sent):
        return broken(f"the client sent {_messages(len(sent))} and received {len(came)}; {story.ended}")
    return kept(f"{_messages(len(sent))}, {len(came)} back by {story.at(came[-1])}")


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


def cleans_up(run: Run) -> Finding:
    """Every resource is closed, in full, before the handler ends."""
    story, cleanup = Story(run), run.verdict.cleanup
    # The resource that fared worst is the one to name: each has its own number.
    lives = {event.data["id"]: event for event in story.all("cleanup", "open", "closing", "closed", "truncated")}
    if not lives:
        return broken(f"your handler opened no resource: there was nothing to give back; {story.ended}")
    worst = {"truncated": "truncated", "missing": "open", "unknown": "closing", "outlived": "closed"}.get(cleanup)
    last = max((event for event in lives.values() if worst in {None, event.kind}), key=lambda event: event.at)
    name = f"`{last.text}`"
    match cleanup:
        case "complete":
            return kept(f"{story.struck}; {name} was closed at {story.at(last)}, and {story.ended}")
        case "truncated":
            return broken(f"{story.struck}; the closing of {name} was cut short at {story.at(last)}; {story.ended}")
        case "missing":
            return broken(f"{story.struck}; {story.ended}, and the closing of {name} never began")
        case "outlived" if story.end is not None:
            when = f"only at {story.at(last)}" if last.kind == "closed" else "not yet"
            return broken(f"{story.struck}; {story.ended}, when {name} was still open: it was closed {when}")
        case _:
            return Finding("unknown", f"{story.struck}; {name} was still closing {story.waited} later")


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


def within(seconds: float) -> Callable[[Run], Finding]:
    """Make the test that the handler ends at most so long after the fault.

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
        took = story.end.at - story.fault.at
        if took > bound:
            return broken(f"{story.struck}; {story.ended}, {milliseconds(took)} later, not {milliseconds(bound)}")
        return kept(f"{story.struck}; {story.ended}, {milliseconds(took)} later")

    return test


def stays(run: Run) -> Finding:
    """The handler serves a client that stays, to the end of the experiment."""
    story = Story(run)
    if story.start is None:
        return Finding("unknown", story.ended)
    if story.end is None:
        return kept(f"{story.struck}; {story.ended}")
    return broken(f"{story.struck}, but {story.ended}")


def notes(*texts: str) -> Callable[[Run], Finding]:
    """Make the test that the handler notes exactly these, in this order.

    Args:
        texts: what ``labkit.note`` is to be called with.

    Returns:
        The test.
    """
    wanted = " and ".join(f'"{text}"' for text in texts)

    def test(run: Run) -> Finding:
        story = Story(run)
        noted = list(story.all("handler", "note"))
        told = ", ".join(f'"{event.text}" at {story.at(event)}' for event in noted) or "nothing"
        if [event.text for event in noted] == list(texts):
            return kept(f"{story.struck}; your handler noted {told}")
        return broken(f"{story.struck}; your handler noted {told}, not {wanted}; {story.ended}")

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
    return kept(f"{story.struck}; {story.ended}, and nobody complained")


def leaves_nothing(run: Run) -> Finding:
    """No task is left when the handler, its server and its client are gone."""
    story, left = Story(run), run.verdict.leaked
    if left:
        return broken(f"{story.struck}; {story.ended}, and left behind: {', '.join(left)}")
    return kept(f"{story.struck}; {story.ended}, and nothing was left")


def _messages(number: int) -> str:
    return f"{number} message{'s' * (number != 1)}"
