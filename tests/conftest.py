"""What every test gets: the same surroundings, and a look at what it leaves behind."""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Generator, Iterator
from typing import Any

import pytest

from labkit.experiment.run import Run
from labkit.support.clock import scaled
from tests.left import Child, children, sockets
from tests.order import disorder

# Else jsonschema makes a parser of IRIs wherever a notebook is read, as JupyterLab would (see `labkit lab`): 2 s.
sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]

# Hypothesis would load the plugins of whatever is installed, which is trio's, in each process that collects the tests.
os.environ.setdefault("HYPOTHESIS_NO_PLUGINS", "1")

# Aiohttp reads the system's certificates wherever it is imported: 0.07 s in each of hundreds of processes. None of them
# speaks to a server beyond loopback.
os.environ.setdefault("SSL_CERT_FILE", os.devnull)

#: Seconds that sockets and processes have to go after a test; closing a transport takes a turn or two of the loop.
GOING = 1.0
#: Seconds that a test has that repeats what others try once.
REPEATING = 900
#: What runs first, the longest before the others, so that processes that share the suite end together.
LONGEST_FIRST = ("browser", "soak", "slow", "notebooks")
#: The browser is the distribution's own; any of these will do.
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy, no debug mode, no picture on a screen: whatever the developer's shell says."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "ws_proxy", "wss_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.delenv("PYTHONASYNCIODEBUG", raising=False)
    monkeypatch.setenv("MPLBACKEND", "agg")


def figures() -> set[str]:
    """Describe pyplot's open figures; without importing pyplot, which costs half a second."""
    pyplot = sys.modules.get("matplotlib.pyplot")
    return {f"pyplot figure {number}" for number in pyplot.get_fignums()} if pyplot else set()


def leftovers() -> set[str | Child]:
    return {*sockets(), *children(), *figures()}


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """Fail a test after which a socket, a process or a pyplot figure is there that was not there before."""
    patience = scaled(GOING)  # now, since a test may set LABKIT_TIME_SCALE
    before = leftovers()
    yield
    deadline = time.monotonic() + patience
    while (extra := leftovers() - before) and time.monotonic() < deadline:
        gc.collect()
        time.sleep(0.02)
    assert not extra, "the test left behind: " + "; ".join(sorted(map(str, extra)))


@pytest.fixture(autouse=True)
def causes_stand_above_effects(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail a test that has played a run in which an effect stands above its cause."""
    runs: list[Run] = []

    def remember(*arguments: Any) -> Run:
        runs.append(Run(*arguments))
        return runs[-1]

    monkeypatch.setattr("labkit.experiment.play.Run", remember)
    yield
    for run in runs:
        # A stranger may go around the wire.
        parts = [each.timeline for each in run.connections if not each.stranger] or [run.timeline]
        wrong = [problem for part in parts for problem in disorder(part)]
        assert not wrong, f"{'; '.join(wrong)}\n{run}"


@pytest.fixture
async def _tasks_are_watched() -> AsyncIterator[None]:
    before = asyncio.all_tasks()
    yield
    # A task that has been told to end may need a turn or two; one that waits for something does not end by itself.
    for _ in range(10):
        await asyncio.sleep(0)
    extra = {task for task in asyncio.all_tasks() - before if not task.done()}
    extra.discard(asyncio.current_task())  # type: ignore[arg-type]
    names = sorted(f"{task.get_name()} ({task.get_coro()!r})" for task in extra)
    for task in extra:
        task.cancel()
    await asyncio.gather(*extra, return_exceptions=True)
    assert not names, "the test left tasks behind: " + "; ".join(names)


def pytest_configure() -> None:
    """Take SIGINT as usual where it is ignored: tests send it to the programs that they start, which inherit that.

    A shell without job control starts what ends in ``&`` with SIGINT ignored (POSIX, Shell Command Language, 2.11).
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_xdist_auto_num_workers() -> int | None:
    """Run six processes on two cores, since the tests wait for more than half of their time."""
    if os.environ.get("PYTEST_XDIST_AUTO_NUM_WORKERS"):
        return None  # the developer's own number
    return max(1, (os.cpu_count() or 1) * 3)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Watch the tasks of each test that runs in a loop, leave repetitions to ``-m soak``, put the longest first."""
    marks = {item: {mark.name for mark in item.iter_markers()} for item in items}
    for item in items:
        if isinstance(item, pytest.Function) and "asyncio" in marks[item]:
            item.fixturenames.insert(0, "_tasks_are_watched")
        if "soak" in marks[item] and "timeout" not in marks[item]:
            item.add_marker(pytest.mark.timeout(REPEATING))
    if "soak" not in config.option.markexpr:  # addopts cannot say this: another -m would take its place
        repetitions = [item for item in items if "soak" in marks[item]]
        config.hook.pytest_deselected(items=repetitions)
        items[:] = [item for item in items if "soak" not in marks[item]]
    items.sort(key=lambda item: [name not in marks[item] for name in LONGEST_FIRST])


#: When this process began to collect the tests.
_BEGAN = time.monotonic()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Begin no repetition after the minutes that LABKIT_SOAK_MINUTES gives them."""
    minutes = float(os.environ.get("LABKIT_SOAK_MINUTES", "inf"))
    if item.get_closest_marker("soak") and time.monotonic() - _BEGAN > 60 * minutes:
        pytest.skip(f"not tried: the {minutes:g} minutes for repetitions are over")


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, Any, Any]:
    """Escape lone surrogates in a report, which may hold what a test printed: xdist sends reports as UTF-8."""
    return encodable((yield))


def encodable(value: Any) -> Any:
    """Give a report's data as UTF-8 can hold it."""
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    if isinstance(value, dict):
        return {encodable(key): encodable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(encodable, value))
    return value


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A certificate of one's own, as a developer makes one, and its key: the paths of both files."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificate, and is not installed")
    folder = tmp_path_factory.mktemp("certificate")
    paths = str(folder / "certificate.pem"), str(folder / "key.pem")
    request = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    command = [*request.split(), "-out", paths[0], "-keyout", paths[1]]
    subprocess.run(command, check=True, capture_output=True)
    return paths


@pytest.fixture(scope="session")
def tls(certificate: tuple[str, str]) -> ssl.SSLContext:
    """What a server with that certificate is given."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    return context


@pytest.fixture(scope="session")
def browser_program() -> str:
    """The distribution's browser."""
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        why = f"no browser is installed ({', '.join(BROWSERS)}); on Debian: apt install chromium"
        if os.environ.get("LABKIT_REQUIRE_BROWSER"):
            pytest.fail(f"LABKIT_REQUIRE_BROWSER is set, but {why}")
        pytest.skip(why)
    return program


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, Any, Any]:
    """Let the collector wait while the tests are found: nearly all that is made then stays, and it looked each time."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


def pytest_collection_finish() -> None:
    """Leave what the suite itself holds out of the collections to come: it stays, and is most of all there is."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish() -> None:
    """Give it back: at the end, Hypothesis looks for those who refer to a library's generator, and must find them."""
    gc.unfreeze()
