"""The handler's source, with when each line first ran."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from html.parser import HTMLParser
from typing import Any

from labkit.timeline import Timeline
from labkit.views.source import Source, source
from tests.views.stories import Story

CODE = textwrap.dedent('''\
    async def echo(ws):
        """Echo."""
        try:
            async for message in ws:
                await ws.send("<b>" + message)
        finally:
            print("bye")
        while True:
            await ws.recv()
        print("dead")
''')


def watched(code: str = CODE, first: int = 11, **account: Any) -> Story:
    """A timeline with an account of lines: all but the first, the docstring, ``finally:`` and the last one can run."""
    executable = [first + n for n in (2, 3, 4, 6, 7, 8)]
    known = {"executable": executable, "tool": "sys.monitoring", "why": None, "source": code, "first": first}
    story = Story().then("handler", "lines", "", **(known | account))
    story.then("client", "connect", "connect")
    start = {"handler": "echo", "stack": "websockets", "library": "websockets 17.4", "given": "ServerConnection"}
    return story.then("handler", "start", "echo starts", **start, call=1)


def states(shown: Source) -> dict[int, str]:
    return {line.number: line.state for line in shown.lines}


def test_each_line_says_when_it_first_ran() -> None:
    """In milliseconds since connect, and after the fault also since the fault."""
    story = watched().then("handler", "line", "try:", line=13).then("handler", "line", "async for", line=14)
    story.struck().then("handler", "line", "print", line=17, wait=50)
    caption, *rows = str(source(story.timeline)).splitlines()
    assert caption == (
        "echo: when each line first ran, in ms since connect; ★ after the fault (+ms since it); ✗ never ran;"
        " ✗ unreachable: the compiler made no code for it"
    )
    assert rows == [
        "line     first ran",
        "  11                  async def echo(ws):",
        '  12                      """Echo."""',
        "  13           0.2        try:",
        "  14           0.3            async for message in ws:",
        '  15     never ran ✗              await ws.send("<b>" + message)',
        "  16                      finally:",
        '  17  50.4 (+50.0) ★          print("bye")',
        "  18     never ran ✗      while True:",
        "  19     never ran ✗          await ws.recv()",
        '  20   unreachable ✗      print("dead")',
    ]


def test_what_ran_only_because_the_lab_stopped_it_is_told_apart() -> None:
    """The verdict counts such a line as one that never ran."""
    story = watched().stopped().then("handler", "line", "print", line=17)
    (line,) = (line for line in source(story.timeline).lines if line.number == 17)
    assert (line.state, line.mark, line.when) == ("stopped", "✗", "1.0, stopped")


def test_unknown_is_not_never() -> None:
    """Where nobody watched, every line that can run is unknown, and the reason is told."""
    story = watched(tool=None, why="a debugger or a coverage tool holds sys.settrace")
    shown = source(story.timeline)
    assert states(shown)[15] == "unknown"
    assert "never" not in states(shown).values()
    assert "unknown: a debugger or a coverage tool holds sys.settrace." in str(shown)


def test_the_last_account_counts() -> None:
    """A tool that was taken away during the run takes back what the first account promised."""
    story = watched()
    account = {**story.events[0].data, "tool": None, "why": "a debugger took over"}
    shown = source(story.then("handler", "lines", "", **account).timeline)
    assert set(states(shown).values()) == {"blank", "unknown", "unreachable"}


def test_a_method_is_read_as_it_stands() -> None:
    """An indented source, with a string that is not, is understood."""
    code = textwrap.indent(CODE, "    ").replace('"dead"', '"""dead\nand gone"""')
    assert states(source(watched(code).timeline))[20] == "unreachable"


def test_lines_without_code_are_blank() -> None:
    """Docstrings, declarations and what belongs to a statement above are nothing that could run."""
    code = 'async def h(ws):\n    """Doc."""\n    global x\n    y: int\n    print(\n        1\n    )\n'
    shown = source(watched(code, 1, executable=[5, 6]).timeline)
    assert states(shown) == {1: "blank", 2: "blank", 3: "blank", 4: "blank", 5: "never", 6: "never", 7: "blank"}


def test_without_a_source_the_numbers_are_shown() -> None:
    """A handler from ``exec`` has lines, but no text."""
    shown = source(watched(executable=[2, 3], source=None).then("handler", "line", "line 2", line=2).timeline)
    assert states(shown) == {2: "ran", 3: "never"}
    assert "not at hand" in str(shown)


def test_a_timeline_without_an_account_says_so() -> None:
    """It is no error: a client's timeline has no handler."""
    assert "No account" in str(source(Timeline.of([])))


class Table(HTMLParser):
    """Collects tags, attributes and cells."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.data: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep a tag."""
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        """Keep a text."""
        self.data.append(data)


def test_the_table_can_be_read_by_all() -> None:
    """Rows and columns have heads, code is escaped, and no colour of text or solid background is set."""
    bundle = source(watched().timeline)._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "text/html"}
    page = bundle["text/html"]
    table = Table(page)
    scopes = [attributes.get("scope") for tag, attributes in table.tags if tag == "th"]
    assert scopes == ["col"] * 4 + ["row"] * 10
    assert "b" not in {tag for tag, _ in table.tags}
    assert 'await ws.send("<b>" + message)' in "".join(table.data)
    colours = (
        page.replace("color:inherit", "").replace("background:none", "").replace("background:color-mix(in srgb", "")
    )
    assert "color:" not in colours
    assert "background:" not in colours
    marked = [attributes for tag, attributes in table.tags if tag == "tr" and "d55e00" in str(attributes.get("style"))]
    # Six lines never ran and one is unreachable; each says so in words and with a mark as well.
    assert len(marked) == 7
    assert table.data.count("✗") == 7


def test_include_and_exclude_are_honoured() -> None:
    """As IPython asks."""
    shown = source(watched().timeline)
    assert set(shown._repr_mimebundle_(include=["text/html"])) == {"text/html"}
    assert set(shown._repr_mimebundle_(exclude=["text/html"])) == {"text/plain"}


def test_text_views_load_no_matplotlib() -> None:
    """Who reads a log does not wait for a library that draws."""
    code = (
        "import sys, labkit, labkit.views.text, labkit.views.alt, labkit.views.source, labkit.views.bundle;"
        "labkit.table; from tests.views import stories;"
        "labkit.views.bundle.mimebundle(*stories.short().told, include=['text/plain']);"
        "print('matplotlib' in sys.modules, 'numpy' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out == "False False\n"


def test_a_line_that_runs_again_keeps_its_first_time() -> None:
    """What runs again after the fault has not run because of it."""
    story = watched().then("handler", "line", "try:", line=13).struck().then("handler", "line", "try:", line=13)
    (line,) = (line for line in source(story.timeline).lines if line.number == 13)
    assert (line.state, line.when) == ("ran", "0.2")


def test_a_line_that_runs_as_the_fault_strikes_runs_after_it() -> None:
    """The fault comes first in the timeline, so the time between them is zero."""
    story = watched().struck().then("handler", "line", "try:", line=13, wait=0)
    (line,) = (line for line in source(story.timeline).lines if line.number == 13)
    assert (line.state, line.since_fault) == ("after", 0.0)


def test_what_the_lab_stopped_is_so_after_a_fault_too() -> None:
    """It ran for the lab, and not for the fault; the table marks its row."""
    story = watched().struck().stopped().then("handler", "line", "print", line=17)
    shown = source(story.timeline)
    assert states(shown)[17] == "stopped"
    table = Table(shown._repr_mimebundle_()["text/html"])
    marked = [attributes for tag, attributes in table.tags if tag == "tr" and "d55e00" in str(attributes.get("style"))]
    # The five other lines that can run, the one that cannot be reached, and this one.
    assert len(marked) == 7


def test_a_declaration_is_nothing_that_could_run() -> None:
    """``nonlocal`` makes no code either."""
    code = "def outer():\n    x = 1\n    async def h(ws):\n        nonlocal x\n        x = 2\n"
    shown = source(watched(code, 1, executable=[2, 5]).timeline)
    assert states(shown)[4] == "blank"


def test_a_source_that_cannot_be_parsed_is_shown() -> None:
    """Which statements are unreachable is then not known."""
    shown = source(watched("async def h(ws:\n    pass\n", 1, executable=[2]).timeline)
    assert states(shown) == {1: "blank", 2: "never"}


def test_the_table_says_why_something_is_unknown_and_keeps_indents() -> None:
    """The reason stands above the table; a tab is as wide as four blanks."""
    code = "async def h(ws):\n\tawait ws.recv()\n"
    page = source(watched(code, 1, executable=[2], tool=None, why="a debugger").timeline)._repr_mimebundle_()[
        "text/html"
    ]
    assert page.startswith("<p>Which lines ran is unknown: a debugger.</p><table")
    assert ">    await ws.recv()</code>" in page
