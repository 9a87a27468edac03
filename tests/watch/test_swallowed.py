"""A cancel that ends in a handler is found, with its line; one that is passed on, or taken back, is none."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from labkit.events import HandlerSwallowed
from labkit.introspection.suspended import handled, is_open
from labkit.timeline import Scope, Timeline, scope
from labkit.watch.host import Host
from labkit.watch.lines import watch

#: What handlers note, in place of a cleanup.
DIARY: list[str] = []

CANCELS = (asyncio.CancelledError, KeyboardInterrupt)


async def forever() -> None:
    """As a handler waits for a client that says nothing."""
    await asyncio.Event().wait()


class Limit(BaseException):
    """Nothing that a handler here raises."""


async def passes(_: Any) -> None:
    """Nobody catches it."""
    await forever()


async def cleans_up_and_passes_on(_: Any) -> None:
    """The cleanup waits, twice, and the cancel goes on."""
    try:
        await forever()
    except asyncio.CancelledError:
        await asyncio.sleep(0)
        raise
    finally:
        await asyncio.sleep(0)


async def keeps_it_for_later(_: Any) -> None:
    """Raised again, by hand."""
    kept = None
    try:
        await forever()
    except asyncio.CancelledError as cancel:
        kept = cancel
    if kept is not None:
        raise kept


async def catches_another_in_the_cleanup(_: Any) -> None:
    """What the cleanup raises and catches is its own affair."""
    try:
        await forever()
    finally:
        try:
            raise ConnectionResetError
        except OSError:
            await asyncio.sleep(0)


async def takes_it_back(_: Any) -> None:
    """`uncancel()`, by who knows what it is doing."""
    try:
        await forever()
    except asyncio.CancelledError:
        asyncio.current_task().uncancel()  # type: ignore[union-attr]
    await forever()


async def limits_itself(_: Any) -> None:
    """The cancel is that of `asyncio.timeout`, which takes it back."""
    for _turn in range(2):
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0):
                await forever()
    await forever()


async def waits_for(_: Any) -> None:
    """And so does `asyncio.wait_for`."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(forever(), 0)
    await forever()


async def groups(_: Any) -> None:
    """The cancel is that of a task group whose other task has failed."""

    async def fails() -> None:
        raise ValueError

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(fails())
            await forever()
    except* ValueError:
        pass
    await forever()


async def ends_its_own_task(_: Any) -> None:
    """Somebody else's cancel, which it has asked for itself."""
    task = asyncio.create_task(forever())
    await asyncio.sleep(0)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    await forever()


async def fails_in_the_cleanup(_: Any) -> None:
    """It does not go on: it ends, with an error."""
    try:
        await forever()
    except asyncio.CancelledError:
        raise RuntimeError("the cleanup") from None


async def excepts(_: Any) -> None:
    """By its name."""
    try:
        await forever()
    except ValueError:
        await forever()
    except asyncio.CancelledError:  # here
        pass
    await forever()


async def excepts_all(_: Any) -> None:
    """Without a name."""
    try:
        await forever()
    except:  # noqa: E722 - here
        DIARY.append("cancelled")
    await forever()


async def excepts_base(_: Any) -> None:
    """By its base class, with a cleanup that waits, and returns."""
    try:
        await forever()
    except BaseException:  # here
        await asyncio.sleep(0)


async def excepts_by_another_name(_: Any) -> None:
    """A name that only the running program knows."""
    try:
        await forever()
    except Limit:
        raise
    except CANCELS:  # here
        pass
    await forever()


async def suppresses(_: Any) -> None:
    """With the standard library's help."""
    while True:
        with (
            contextlib.nullcontext(),
            contextlib.suppress(asyncio.CancelledError),
        ):  # above
            await forever()


async def suppresses_in_a_stack(_: Any) -> None:
    """The same, not for everybody to see."""
    async with contextlib.AsyncExitStack() as stack:  # here
        stack.enter_context(contextlib.suppress(asyncio.CancelledError))
        await forever()
    await forever()


async def returns_finally(_: Any) -> None:
    """A `return` in a `finally` drops whatever comes."""
    try:
        await forever()
    finally:
        for _number in range(2):
            continue
        return  # noqa: B012 - here


async def breaks_finally(_: Any) -> None:
    """So does a `break`."""
    while True:
        try:
            await forever()
        finally:
            break  # noqa: B012 - here
    await forever()


async def passes_it_on_to_itself(_: Any) -> None:
    """The inner clause raises it again; the outer one ends it."""
    try:
        try:
            await forever()
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            raise
    except BaseException:  # here
        pass
    await forever()


async def leaves_the_outer_alone(_: Any) -> None:
    """The inner clause ends it; what stands around it ends as usual."""
    with contextlib.nullcontext():
        try:
            await forever()
        except asyncio.CancelledError:  # here
            DIARY.append("cancelled")
        with contextlib.suppress(ValueError):
            raise ValueError
    await forever()


async def fails_afterwards(_: Any) -> None:
    """It has ended already when something else goes wrong."""
    with contextlib.suppress(ConnectionResetError):
        try:
            await forever()
        except asyncio.CancelledError:  # here
            DIARY.append("cancelled")
        raise ConnectionResetError
    await forever()


async def turns_it_into_an_error(_: Any) -> None:
    """The error that it becomes is caught in turn."""
    try:
        try:
            await forever()
        except asyncio.CancelledError:  # here
            raise ConnectionResetError from None
    except ConnectionResetError:
        await asyncio.sleep(0)
    await forever()


async def receive() -> None:
    """A helper of the handler's."""
    try:
        await forever()
    except BaseException:  # here
        return


async def asks_a_helper(_: Any) -> None:
    """The line is the helper's."""
    await receive()
    await forever()


async def messages() -> AsyncIterator[int]:
    """A stream of the handler's own."""
    try:
        await forever()
    except asyncio.CancelledError:  # here
        yield 1


async def streams(_: Any) -> None:
    """In an asynchronous generator, which goes on inside of its clause."""
    async for _message in messages():
        await forever()


@contextlib.asynccontextmanager
async def session() -> AsyncIterator[None]:
    """A context of the handler's own, which catches what comes out of its block."""
    try:
        yield
    except asyncio.CancelledError:  # here
        await asyncio.sleep(0)


async def sits_in_a_session(_: Any) -> None:
    """In a context manager of the handler's own, at its clause."""
    async with session():
        await forever()
    await forever()


async def ignores_its_limit(_: Any) -> None:
    """The limit of time is its own, and has no effect."""
    async with asyncio.timeout(0):
        try:
            await forever()
        except asyncio.CancelledError:  # here
            DIARY.append("cancelled")
    await forever()


async def ignores_its_group(_: Any) -> None:
    """Another task of its group has failed, and the group waits for it."""

    async def fails() -> None:
        raise ValueError

    async with asyncio.TaskGroup() as group:
        group.create_task(fails())
        while True:
            with contextlib.suppress(asyncio.CancelledError):  # here
                await forever()


async def awaits_a_stubborn_task(_: Any) -> None:
    """Its cancel has gone to the task that it awaits, and ended there."""

    async def stubborn() -> int:
        with contextlib.suppress(asyncio.CancelledError):
            await forever()
        return 1

    assert await asyncio.create_task(stubborn()) == 1  # here
    await forever()


async def answers_whatever_happens(_: Any) -> None:
    """A clause for everything around each message, as beginners write it (python-websockets/websockets#1013)."""
    for turn in range(2):
        try:
            await (forever() if turn == 0 else asyncio.sleep(0))
        except:  # noqa: E722 - here
            await asyncio.sleep(0)
    await forever()


async def leaves_its_loop(_: Any) -> None:
    """The cancel is a reason to leave the loop, as a lost connection is (ensoft/entrance#16)."""
    while True:
        try:
            await forever()
        except (asyncio.CancelledError, ConnectionError):  # here
            break
    await asyncio.sleep(0)


async def takes_it_for_its_tasks(_: Any) -> None:
    """It expects the cancel of the task that it has ended, and gets its own (Aureliolo/synthorg#1500)."""
    release = asyncio.Event()

    async def consumer() -> None:
        try:
            await forever()
        finally:
            await release.wait()

    task = asyncio.create_task(consumer())
    await asyncio.sleep(0)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:  # here
        DIARY.append("stopped")
    await forever()


INNOCENT = (
    passes, cleans_up_and_passes_on, keeps_it_for_later, catches_another_in_the_cleanup, takes_it_back, limits_itself,
    waits_for, groups, ends_its_own_task, fails_in_the_cleanup,
)  # fmt: skip
GUILTY = (
    excepts, excepts_all, excepts_base, excepts_by_another_name, suppresses, suppresses_in_a_stack, returns_finally,
    breaks_finally, passes_it_on_to_itself, leaves_the_outer_alone, fails_afterwards, turns_it_into_an_error,
    asks_a_helper, streams, sits_in_a_session, ignores_its_limit, ignores_its_group, awaits_a_stubborn_task,
    answers_whatever_happens, leaves_its_loop, takes_it_for_its_tasks,
)  # fmt: skip

#: The functions in which the cancel ends, where that is not the handler.
INSIDE: dict[Any, Any] = {asks_a_helper: receive, streams: messages, sits_in_a_session: session}

#: Those that need no cancel from outside.
BY_THEMSELVES = {limits_itself, waits_for, groups, ends_its_own_task, ignores_its_limit, ignores_its_group}


@contextlib.contextmanager
def a_scope(timeline: Timeline) -> Iterator[None]:
    """The experiment's."""
    token = scope.set(Scope(timeline, "handler"))
    try:
        yield
    finally:
        scope.reset(token)


async def told(handler: Callable[[Any], Any]) -> list[HandlerSwallowed]:
    """Call a handler as a stack does, cancel it once where it waits, and see what ends there."""
    timeline = Timeline()
    host = Host(handler, timeline, stack="websockets", library="websockets 1")
    with a_scope(timeline), watch(handler, timeline):
        task = asyncio.create_task(host.call(object()))
        for _ in range(20):  # so many turns bring it to where it waits for ever; nothing here waits for a clock
            await asyncio.sleep(0)
        if handler not in BY_THEMSELVES:
            task.cancel()
        for _ in range(20):
            await asyncio.sleep(0)
        found = timeline.all(HandlerSwallowed)
        for call in host.calls:
            call.given_up = True
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()
    return found


def marked(handler: Callable[..., Any]) -> int:
    """The line that ends the cancel, which says so."""
    source, first = inspect.getsourcelines(inspect.unwrap(INSIDE.get(handler, handler)))
    if handler is suppresses:
        return first + next(n for n, line in enumerate(source) if "with (" in line)
    return first + next(n for n, line in enumerate(source) if "here" in line.partition("#")[2])


@pytest.mark.parametrize("handler", INNOCENT, ids=lambda handler: handler.__name__)
async def test_a_cancel_that_is_passed_on_is_not_told(handler: Callable[[Any], Any]) -> None:
    """Nor one that is taken back, or that is another task's, or that becomes an error."""
    assert await told(handler) == []


@pytest.mark.parametrize("handler", GUILTY, ids=lambda handler: handler.__name__)
async def test_a_cancel_that_ends_is_told_with_its_line(handler: Callable[[Any], Any]) -> None:
    """However it is caught."""
    found = await told(handler)
    assert [event.line for event in found] == [marked(handler)]


async def test_where_two_cancels_end_as_one_both_are_named() -> None:
    """The handler has caught one exception, and owes it to whoever waits for either."""
    timeline = Timeline()
    host = Host(excepts, timeline, stack="websockets", library="websockets 1")

    def kicks() -> None:
        task.cancel()

    def shuts_down() -> None:
        task.cancel()

    with a_scope(timeline), watch(excepts, timeline):
        task = asyncio.create_task(host.call(object()))
        for _ in range(20):
            await asyncio.sleep(0)
        kicks()
        shuts_down()
        for _ in range(20):
            await asyncio.sleep(0)
        [swallowed] = timeline.all(HandlerSwallowed)
        task.cancel()
        await asyncio.wait([task])
    here = "test_where_two_cancels_end_as_one_both_are_named"
    assert swallowed.by == f"{here}.kicks (tests) and {here}.shuts_down (tests)"
    assert swallowed.line == marked(excepts)


async def test_what_a_suspended_coroutine_handles_is_seen() -> None:
    """Python shows it to nobody but the garbage collector, so this must hold on each version of Python."""

    async def inner() -> None:
        try:
            raise ValueError
        except ValueError:
            await asyncio.sleep(0)

    async def outer(first: bool) -> None:
        if first:
            await asyncio.sleep(0)
        try:
            raise KeyError
        except KeyError:
            await inner()

    for first in (True, False):
        coroutine = outer(first)
        coroutine.send(None)
        found = [type(exception) for exception in handled(coroutine)]
        assert found == ([] if first else [KeyError, ValueError])
        assert is_open(coroutine)
        coroutine.close()
