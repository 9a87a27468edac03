"""``labkit.watch``: what a program opens and closes, and lines of it elsewhere, without a line in the program."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Generator, Iterable
from contextlib import ExitStack
from types import FunctionType, TracebackType
from typing import Any, Final, Self
from uuid import uuid4

from labkit.errors import BadValue
from labkit.events import CleanupClosed, CleanupClosing, CleanupTruncated
from labkit.introspection.helpers import find_functions
from labkit.resources import Life
from labkit.support.replacing import MISSING, replace
from labkit.timeline import Scope, scope
from labkit.watch.lines import watch_too

__all__ = ["active", "watch"]

#: The methods with which a context manager ends.
_EXITS: Final = ("__aexit__", "__exit__")


class watch:  # noqa: N801 - used as a function is: `with labkit.watch(pool, ...):`
    """Watch what an object of a program opens and closes: a pool, a session maker, a lock; or lines in other files.

    Use it with ``with``. While the block runs, the cleanup lane shows what handlers open with the method ``open``, and
    whether it is closed with ``close``, or cut short, as of a :class:`labkit.resource`. The methods may be coroutines,
    plain methods, or give context managers; they work as before, and are restored when the block is left.

    With ``lines``, experiments that begin while the block runs also watch the lines of these functions, where a handler
    calls them: ``run.source()`` shows them below the handler's own. Those of the handler's own file it watches anyway.

    The workers of an executor, as for :func:`labkit.matrix`, watch the same, by its name: what is watched then is a
    global of a module that they can import.

    Args:
        target: the object; or its class, for all objects of it; or a module. None, if only lines are watched.
        open: the name of its method that opens something, such as ``"acquire"``.
        close: the name of the method that closes it: of the object, which may be given what was opened, as in
            ``pool.release(connection)``; or, if the object has none, of what was opened, as in ``session.close()``.
        name: the name on the lane; that of the object's class, if None.
        lines: functions and methods; classes, or objects, for all their methods; modules, for all that they define.

    Raises:
        BadValue: the object has no such method; or what ``lines`` has is not written in Python; or there is nothing to
            watch.

    Attributes:
        id: tells it from all others, in other processes too.
        target: the object, as given.
        lines: what ``lines`` has.
        words: the other arguments.
    """

    def __init__(
        self,
        target: Any = None,
        *,
        open: str | None = None,  # noqa: A002 - the word for it
        close: str | None = None,
        name: str | None = None,
        lines: Iterable[Any] = (),
    ) -> None:
        self.lines: Final = _list_lines(lines)
        self._functions = _read_lines(self.lines)
        self.id: Final = uuid4().hex
        self.target: Final = target
        self.words: Final = {"open": open, "close": close, "name": name}
        self._undo = ExitStack()
        self._lives: list[_Opened] = []
        if target is open is close is None:
            if not self._functions:
                raise BadValue("there is nothing to watch: give an object with open= and close=, or lines=[...]")
            self._target, self.name = None, "lines"
            return
        kind = target if inspect.isclass(target) or inspect.ismodule(target) else type(target)
        self.name = str(getattr(kind, "__name__", kind)) if name is None else str(name)
        if not isinstance(open, str) or not callable(getattr(target, open, None)):
            raise BadValue(f"open={open!r} is not a method of {self.name}")
        if not isinstance(close, str) or not close.isidentifier():
            raise BadValue(f"close={close!r} is not the name of a method, such as 'release'")
        self._target = target
        self._open, self._close = open, close
        self._closes_itself = callable(getattr(target, close, None))

    def __repr__(self) -> str:
        functions = [each.__qualname__ for each in self._functions]
        watched = functions if self._target is None else [self._open, self._close, *functions]
        return f"watch({self.name}: {', '.join(watched)})"

    def __enter__(self) -> Self:
        self._undo.enter_context(watch_too(self._functions))
        _active.append(self)
        self._undo.callback(_active.remove, self)
        if self._target is None:
            return self
        try:
            self._undo.callback(_stand_in(self._target, self._open, self._opening))
            if self._closes_itself:
                self._undo.callback(_stand_in(self._target, self._close, self._closing))
        except BaseException:
            self._undo.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._undo.close()
        self._lives.clear()

    def _opening(self, call: Callable[[], Any], _: tuple[Any, ...]) -> Any:
        """Call the method that opens something."""
        result = call()
        if scope.get() is None:
            return result
        enters = any(hasattr(type(result), name) for name in ("__aenter__", "__enter__"))
        if enters and (inspect.isawaitable(result) or self._closes_itself or not hasattr(result, self._close)):
            return _Entering(result, self)
        return self._wait(result) if inspect.isawaitable(result) else self.opened(result).value

    async def _wait(self, result: Awaitable[Any]) -> Any:
        return self.opened(await result).value

    def opened(self, value: Any) -> _Opened:
        """Record that something is open.

        Args:
            value: what the program has got.

        Returns:
            It, and its life.
        """
        opened = _Opened(self.name, value)
        if value is False:  # as of a lock that somebody else holds
            return opened
        opened.opened()
        self._lives.append(opened)
        if not self._closes_itself and hasattr(value, self._close):

            def closing(call: Callable[[], Any], _: tuple[Any, ...]) -> Any:
                return opened.close(call)

            for name in (self._close, *(each for each in _EXITS if hasattr(type(value), each))):
                self._undo.callback(_stand_in(value, name, closing))
        return opened

    def _closing(self, call: Callable[[], Any], given: tuple[Any, ...]) -> Any:
        """Call the method that closes something, and find out what."""
        opened = self._find(given)
        if opened is None:
            return call()
        return opened.close(call)

    def _find(self, given: tuple[Any, ...]) -> _Opened | None:
        """What is closed: what the method is given; or else what the same connection has opened last."""
        alive = [opened for opened in self._lives if not opened.over]
        self._lives = alive
        for opened in alive:
            if any(each is opened.value for each in given):
                return opened
        here = scope.get()
        mine = [opened for opened in alive if opened.here is None or here is None or opened.here == here]
        return (mine or alive)[-1] if alive else None


#: Those whose blocks run.
_active: Final[list[watch]] = []


def active() -> tuple[watch, ...]:
    """Those whose blocks run now."""
    return tuple(_active)


def _list_lines(given: Iterable[Any]) -> tuple[Any, ...]:
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise BadValue(f"lines={given!r} is not a list of functions, such as [orders.save]")
    return (*given,)


def _read_lines(given: Iterable[Any]) -> list[FunctionType]:
    """The functions whose lines are watched."""
    found: list[FunctionType] = []
    for each in given:
        functions = find_functions(each)
        if not functions:
            raise BadValue(f"lines: {each!r} has no function that is written in Python")
        found += functions
    return found


class _Opened(Life):
    """Something that is open, until it is closed."""

    def __init__(self, name: str, value: Any) -> None:
        super().__init__(name)
        self.value: Final = value
        self.here: Final[Scope | None] = scope.get()
        self.over = False

    def close(self, call: Callable[[], Any]) -> Any:
        """Close it, and record that, or that it is cut short; only once, since one method may call another."""
        if self.over:
            return call()
        self.over = True
        self.record(CleanupClosing)
        try:
            result = call()
        except BaseException:
            self.record(CleanupTruncated)
            raise
        if inspect.isawaitable(result):
            return self._wait(result)
        self.record(CleanupClosed)
        return result

    async def _wait(self, result: Awaitable[Any]) -> Any:
        try:
            value = await result
        except BaseException:
            self.record(CleanupTruncated)
            raise
        self.record(CleanupClosed)
        return value


class _Entering:
    """Stands for a context manager that opens something when it is entered, or awaited."""

    def __init__(self, inner: Any, watched: watch) -> None:
        self._inner = inner
        self._watched = watched
        self._opened: _Opened | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def __await__(self) -> Generator[Any, Any, Any]:
        value = yield from self._inner.__await__()
        return self._watched.opened(value).value

    async def __aenter__(self) -> Any:
        self._opened = self._watched.opened(await self._inner.__aenter__())
        return self._opened.value

    async def __aexit__(self, *raised: object) -> Any:
        assert self._opened is not None
        return await self._opened.close(lambda: self._inner.__aexit__(*raised))

    def __enter__(self) -> Any:
        self._opened = self._watched.opened(self._inner.__enter__())
        return self._opened.value

    def __exit__(self, *raised: object) -> Any:
        assert self._opened is not None
        return self._opened.close(lambda: self._inner.__exit__(*raised))


#: Calls a method through what watches it, with the arguments that the method is given.
_Through = Callable[[Callable[[], Any], tuple[Any, ...]], Any]

#: Who watches a method of a class, for one object or, if that is None, for all; by the class and the method's name.
_watching: Final[dict[tuple[type, str], list[tuple[Any, _Through]]]] = {}


def _stand_in(target: Any, name: str, through: _Through) -> Callable[[], None]:
    """Put a stand-in in the place of a method; return what puts the method back."""
    if inspect.isclass(target):
        return _in_class(target, name, None, through)
    if name.startswith("__"):  # Python looks these up in the class
        return _in_class(type(target), name, target, through)
    before, inner = getattr(target, "__dict__", {}).get(name, MISSING), getattr(target, name)

    @functools.wraps(inner)
    def stand_in(*arguments: Any, **keywords: Any) -> Any:
        return through(lambda: inner(*arguments, **keywords), arguments)

    try:
        setattr(target, name, stand_in)
    except (AttributeError, TypeError):  # it has slots, or is written in C
        return _in_class(type(target), name, target, through)
    return functools.partial(_put_back, target, name, stand_in, before)


def _put_back(target: Any, name: str, stand_in: Any, before: Any) -> None:
    if getattr(target, name, None) is not stand_in:
        return  # other code has replaced it meanwhile
    if before is MISSING:
        delattr(target, name)
    else:
        setattr(target, name, before)


def _in_class(kind: type, name: str, only: Any, through: _Through) -> Callable[[], None]:
    """Put a stand-in in the place of a method of a class, for one object or for all."""
    watching, mine = _watching.setdefault((kind, name), []), (only, through)
    watching.append(mine)
    try:
        undo = replace(kind, name, lambda method: _of_class(kind, name, method, watching))
    except TypeError:
        watching.remove(mine)
        raise BadValue(f"{kind.__name__}.{name} cannot be watched, since Python itself has made the class") from None

    def leave() -> None:
        watching.remove(mine)
        undo()
        if not watching:
            _watching.pop((kind, name), None)

    return leave


def _of_class(kind: type, name: str, method: Any, watching: list[tuple[Any, _Through]]) -> Callable[..., Any]:
    def stand_in(self: Any, *arguments: Any, **keywords: Any) -> Any:
        inner = getattr(super(kind, self), name) if method is MISSING else method.__get__(self, kind)
        call = functools.partial(inner, *arguments, **keywords)
        for only, through in watching:
            if only is None or only is self:
                call = functools.partial(through, call, arguments)
        return call()

    return stand_in if method is MISSING else functools.wraps(method)(stand_in)
