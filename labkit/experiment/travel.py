"""What travels between this process and a worker's: handlers with their code and its lines, and runs."""

from __future__ import annotations

import linecache
import marshal
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, Final

from labkit.events import Event
from labkit.experiment.attached import active
from labkit.experiment.carried import Name, names
from labkit.experiment.run import Run
from labkit.timeline import Timeline
from labkit.watch.handler import original

__all__ = ["Packed", "dumps", "is_own", "learn_sources", "pack", "sources_of", "unpack"]

#: A run in a form that can be sent between processes.
Packed = tuple[str, str, str, list[Event], str, str]


#: The folders of modules that are installed, which a worker has too. All others are the user's own.
_INSTALLED: Final = frozenset({"site-packages", "dist-packages"})


def dumps(what: Any, executor: Executor) -> bytes:
    """Pickle something; functions and classes of the user's own travel with their code.

    A worker may have no module of that name, or an older one: a Dask cluster's lives longer than a file stays as it is.
    A module that cannot travel, since it holds a lock or a connection, is for the worker to import; so are all modules
    for a thread, which has them. Where ``labkit.watch`` watches something, workers import it too, so that it is
    the same for whoever uses it there.

    Args:
        what: what is sent.
        executor: whose workers it is sent to.
    """
    if not isinstance(executor, ThreadPoolExecutor) and not active():
        with suppress(Exception), _own_modules_by_value():
            return _dumps(what, {})
    return _dumps(what, names())


@contextmanager
def _own_modules_by_value() -> Iterator[None]:
    """Let cloudpickle take the code of the user's modules, and not their names."""
    import cloudpickle

    taken = cloudpickle.list_registry_pickle_by_value()
    modules = [module for name, module in list(sys.modules.items()) if name not in taken and is_own(name, module)]
    for module in modules:
        cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        for module in modules:
            cloudpickle.unregister_pickle_by_value(module)


def is_own(name: str, module: ModuleType) -> bool:
    """Tell whether a module is the user's own: neither installed nor Python's nor the lab's.

    Args:
        name: its name in ``sys.modules``.
        module: the module.
    """
    file = getattr(module, "__file__", None)
    if file is None or getattr(module, "__name__", None) != name:
        return False
    return name.partition(".")[0] not in {"labkit", *sys.stdlib_module_names} and _INSTALLED.isdisjoint(
        Path(file).parts
    )


def _dumps(what: Any, by_name: Mapping[int, Name]) -> bytes:
    import cloudpickle

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc] # cloudpickle has no types
        # cloudpickle gives every code the same file; whose code a line belongs to is known by its file.
        dispatch_table = cloudpickle.Pickler.dispatch_table.new_child({CodeType: _reduce_code})

        def reducer_override(self, value: Any) -> Any:
            if (name := by_name.get(id(value))) is not None:
                return Name.find, (name,)
            return super().reducer_override(value)

    dumped = BytesIO()
    Pickler(dumped).dump(what)
    return dumped.getvalue()


def _reduce_code(code: CodeType) -> tuple[Callable[[bytes], Any], tuple[bytes]]:
    return marshal.loads, (marshal.dumps(code),)


def sources_of(targets: Iterable[Any]) -> dict[str, list[str]]:
    """Find the lines of the handlers' files: a worker cannot read the cells of a notebook, nor another machine's files.

    Args:
        targets: the handlers.

    Returns:
        The lines by the file's name.
    """
    codes = {getattr(original(target), "__code__", None) for target in targets}
    files = {code.co_filename for code in codes if code is not None}
    return {file: lines for file in files if (lines := linecache.getlines(file))}


def learn_sources(sources: Mapping[str, list[str]]) -> None:
    """Have this process know the lines of files as they are where the handlers come from.

    Args:
        sources: what ``sources_of`` returned where they can be read.
    """
    for file, lines in sources.items():
        if linecache.getlines(file) == lines:
            continue  # it reads them itself, and will see when the file changes
        linecache.cache[file] = sum(map(len, lines)), None, lines, file


def pack(run: Run | None) -> Packed | None:
    """Give a run the form in which it is sent.

    Args:
        run: the run, if there is one.
    """
    if run is None:
        return None
    return run.handler, run.on, run.fault, list(run.timeline), run.clock, run.clock_words


def unpack(packed: Packed | None) -> Run | None:
    """Make the run again that was sent.

    Args:
        packed: what ``pack`` returned.
    """
    if packed is None:
        return None
    handler, on, fault, events, *clock = packed
    return Run(handler, on, fault, Timeline.of(events), *clock)
