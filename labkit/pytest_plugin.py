"""The plugin for pytest: fixtures ``play``, ``host``, ``wire``; markers ``faults``, ``moments``; runs in the report.

Every pytest session loads this file where labkit is installed, so it imports nothing of the lab until a test asks.
"""

from __future__ import annotations

import inspect
import re
import sys
import warnings
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from labkit import Run

#: How many moments a test tries that does not say it.
_MOMENTS: Final = 10


@dataclass(frozen=True)
class _Kept:
    """A run of a test, and the token from which it can be played again, if it has one."""

    run: Run
    token: str | None = None


class _Runs(dict[int, _Kept]):
    """The runs of one test, the oldest first, by the ``id()`` of their timeline: of a host and its wire, one."""


_RUNS: Final = pytest.StashKey[_Runs]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--labkit-artifacts``."""
    parser.getgroup("labkit").addoption(
        "--labkit-artifacts", metavar="DIR", type=Path, help="Write picture and recording of failed tests' runs to DIR."
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers."""
    config.addinivalue_line(
        "markers",
        "faults(*faults): labkit's faults or families, such as 'reset' or 'closing', one after the other as the"
        " argument `fault`; without any, all that must end a handler.",
    )
    config.addinivalue_line(
        "markers",
        f"moments(count={_MOMENTS}): the awaits of a handler at which the fault strikes, one after the other as the"
        " argument `moment`, for play(..., when=moment); the last is the end of the conversation.",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make a test of each fault, and of each moment."""
    if (marker := metafunc.definition.get_closest_marker("faults")) is not None:
        _check(metafunc, marker, "fault")
        faults = _read_faults(metafunc, marker.args)
        metafunc.parametrize("fault", faults, ids=[str(fault) for fault in faults])
    if (marker := metafunc.definition.get_closest_marker("moments")) is not None:
        _check(metafunc, marker, "moment")
        count = marker.args[0] if marker.args else marker.kwargs.get("count", _MOMENTS)
        if type(count) is not int or count < 1:
            raise _mistake(metafunc, f"@pytest.mark.moments({count!r}) takes a whole number from 1")
        from labkit import Await

        numbers = range(1, count + 1)
        metafunc.parametrize(
            "moment", [*map(Await, numbers), "through"], ids=[*(f"await-{n}" for n in numbers), "through"]
        )


def _check(metafunc: pytest.Metafunc, marker: pytest.Mark, argument: str) -> None:
    if argument not in metafunc.fixturenames:
        raise _mistake(metafunc, f"with @pytest.mark.{marker.name} a test takes an argument `{argument}`")


def _mistake(metafunc: pytest.Metafunc, sentence: str) -> Exception:
    return pytest.Collector.CollectError(f"{metafunc.definition.nodeid}: {sentence}")


def _read_faults(metafunc: pytest.Metafunc, given: tuple[Any, ...]) -> list[Any]:
    """The faults of a marker, each once: names as they are, and what has knobs as a fault."""
    from labkit import ENDING, FAULTS
    from labkit.errors import LabError, UnknownName
    from labkit.faults import FAMILIES
    from labkit.faults.fault import find_fault

    found: list[Any] = []
    for each in given or ENDING:
        if isinstance(each, str) and each in FAMILIES:
            found += [name for name, fault in FAULTS.items() if fault.family == each]
        elif isinstance(each, str) and each not in FAULTS:
            raise _mistake(metafunc, str(UnknownName("fault", each, FAULTS)))
        else:
            try:
                found.append(each if isinstance(each, str) else find_fault(each))
            except LabError as error:
                raise _mistake(metafunc, str(error)) from None
    return list(dict.fromkeys(found))


# --- fixtures --------------------------------------------------------------------------------------------------------


@pytest.fixture
def _labkit_runs(request: pytest.FixtureRequest) -> Iterator[_Runs]:
    runs = request.node.stash.setdefault(_RUNS, _Runs())
    request.config.stash[_RUNS] = runs  # where an assert looks, which knows no test
    yield runs
    request.config.stash[_RUNS] = _Runs()


@pytest.fixture
def play(request: pytest.FixtureRequest, _labkit_runs: _Runs) -> Callable[..., Any]:
    """``labkit.play``, whose runs pytest shows if the test fails.

    In a coroutine, ``run = await play(handler, ...)``; in a plain test, ``run = play(handler, ...)``.
    """
    import labkit

    moment = request.node.callspec.params.get("moment") if hasattr(request.node, "callspec") else None
    count = _count(request.node)
    plain = not inspect.iscoroutinefunction(getattr(request, "function", None))

    async def played(*arguments: Any, **options: Any) -> Run:
        __tracebackhide__ = True
        try:
            run = await labkit.play(*arguments, **options)
        except labkit.LabError as mistake:
            raise mistake.with_traceback(None) from None  # its sentence says all; the way there is the lab's own
        _labkit_runs[id(run.timeline)] = _Kept(run, _token(*arguments, **options))
        if count is not None and options.get("when") is moment:
            _look_at_moment(run, moment, count)
        return run

    def play(*arguments: Any, **options: Any) -> Any:
        __tracebackhide__ = True
        coroutine = played(*arguments, **options)
        if not plain or _in_a_loop():
            return coroutine
        try:
            return labkit.run(coroutine)
        except labkit.LabError as mistake:
            raise mistake.with_traceback(None) from None

    return play


def _in_a_loop() -> bool:
    # Where nobody has imported it yet, it takes most of the time that this file would take.
    if (asyncio := sys.modules.get("asyncio")) is None:
        return False
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _count(item: pytest.Item) -> int | None:
    """How many moments a test tries; None if it does not say that it tries any."""
    marker = item.get_closest_marker("moments")
    if marker is None:
        return None
    return int(marker.args[0] if marker.args else marker.kwargs.get("count", _MOMENTS))


def _look_at_moment(run: Run, moment: Any, count: int) -> None:
    """Skip a test whose moment the handler does not have; fail the last one, if the handler has more than are tried."""
    if moment != "through":
        if run.verdict.struck is False:
            pytest.skip(f"the handler did not come to this moment: {run.verdict.sentence}")
        return
    from labkit.events import WireFault

    fault = run.timeline.first(WireFault)
    if fault is not None and (fault.waits or 0) > count:
        pytest.fail(
            f"the handler suspends {fault.waits} times, and this test tries {count} of them:"
            f" write @pytest.mark.moments({fault.waits})",
            pytrace=False,
        )


def _token(*arguments: Any, **options: Any) -> str:
    from labkit import play as labkit_play
    from labkit.experiment.token import make_token

    given = inspect.signature(labkit_play).bind(*arguments, **options)
    given.apply_defaults()
    said = {**given.arguments, **given.arguments.get("server_options", {})}
    said.pop("server_options", None)
    return make_token(**said)


@pytest.fixture
def host(_labkit_runs: _Runs) -> Callable[..., AbstractAsyncContextManager[Any]]:
    """Host a handler as ``labkit.host`` does; pytest shows the run if the test fails."""
    import labkit

    @asynccontextmanager
    async def host(*arguments: Any, **options: Any) -> AsyncIterator[Any]:
        server = None
        try:
            async with labkit.host(*arguments, **options) as server:
                yield server
        finally:
            if server is not None:
                _labkit_runs[id(server.timeline)] = _Kept(server.run())

    return host


@pytest.fixture
def wire(_labkit_runs: _Runs) -> Callable[..., AbstractAsyncContextManager[Any]]:
    """Put a wire before a server as ``labkit.Wire`` does; pytest shows the run if the test fails."""
    import labkit

    @asynccontextmanager
    async def wire(*arguments: Any, **options: Any) -> AsyncIterator[Any]:
        made = None
        try:
            async with labkit.Wire(*arguments, **options) as made:
                yield made
        finally:
            # With the timeline of a host, the host's run tells all of it, and comes when its block ends.
            if made is not None:
                _labkit_runs[id(made.timeline)] = _Kept(made.run())

    return wire


# --- reports ---------------------------------------------------------------------------------------------------------


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the runs of a test that fails."""
    report = yield
    runs = item.stash.get(_RUNS, None)
    if runs and report.when == "call" and report.failed:
        folder = item.config.getoption("--labkit-artifacts")
        for number, kept in enumerate(runs.values(), 1):
            run = kept.run
            lines = [str(run)]
            if kept.token is not None:
                lines.append(f"To play it again: labkit replay {kept.token}")
            if folder is not None:
                lines.append(_write(run, folder, re.sub(r"[^\w.-]+", "-", item.nodeid).strip("-"), number))
            report.sections.append((f"labkit: {run.handler} on {run.on}, fault {run.fault}", "\n".join(lines)))
    return report


def _write(run: Run, folder: Path, name: str, number: int) -> str:
    """Write the picture and the recording of a run; give a line that says where they are."""
    path = folder / f"{name[-150:]}-{number}.png"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # to draw is not what the test is about
            run.plot().savefig(path, format="png")
        run.save(path.with_suffix(".json"))
    except Exception as problem:
        return f"The picture cannot be written to {path}: {problem}"
    return f"Its picture: {path}; its recording, for labkit.load: {path.with_suffix('.json')}"


def pytest_assertrepr_compare(config: pytest.Config, op: str, left: object, right: object) -> list[str] | None:
    """Say more of a finding that is not as expected: of which run it is, and the verdict's sentence."""
    runs = config.stash.get(_RUNS, None)
    if not runs or not isinstance(left, str) or not isinstance(right, str | tuple | list | set | frozenset):
        return None
    for kept in reversed(runs.values()):
        run = kept.run
        names = [f"verdict.{name}" for name, value in asdict(run.verdict).items() if value == left]
        if not names and run.outcome == left:
            names = ["outcome"]
        if names:
            return [
                f"{left!r} {op} {right!r}",
                f"{' or '.join(names)} of {run.handler} on {run.on}, fault {run.fault}:",
                run.verdict.sentence,
            ]
    return None
