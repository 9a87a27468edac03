"""Which files ``check --watch`` watches: the handler's, and those of its own that it imports."""

from __future__ import annotations

from pathlib import Path

from labkit.cli.imported import find_imported


def test_what_a_file_imports_is_found_without_running_it(tmp_path: Path) -> None:
    """Through packages with and without ``__init__``, relative imports, functions and circles; libraries are not."""
    texts = {
        "server.py": "import asyncio, app.rooms\nfrom shop import orders\ndef f():\n    import late\nraise SystemExit",
        "app/__init__.py": "",
        "app/rooms.py": "from . import users\nfrom .deep.store import save\n",
        "app/users.py": "import server\n",
        "app/deep/store.py": "from ..broken import x",
        "app/broken.py": "def (",
        "shop/orders.py": "\0",
        "late.py": "from ....... import nowhere",
        "stranger.py": "import server",
    }
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_text(text)
    found = find_imported(tmp_path / "server.py", [tmp_path])
    there = {path.relative_to(tmp_path).as_posix() for path in found if path.exists()}
    assert there == texts.keys() - {"stranger.py"}


def test_a_file_that_is_not_there_yet_is_waited_for(tmp_path: Path) -> None:
    """What its reader writes next may be what the first one imports."""
    (tmp_path / "server.py").write_text("import helper\n")
    assert tmp_path / "helper.py" in find_imported(tmp_path / "server.py", [tmp_path])
