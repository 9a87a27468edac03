"""A real database tells what a moment has left in it: `moments` asks it after each, and finds the one window."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import labkit
from labkit.support.names import load_name

EXAMPLE = Path(__file__).parents[2] / "examples" / "sqlite_presence.py"


def example(name: str) -> Any:
    return load_name(f"{EXAMPLE}:{name}")


async def test_one_moment_leaves_a_row_that_says_online_for_ever(tmp_path: Path) -> None:
    """Where the row is written outside of the `try`; where the client goes elsewhere, or is mended, none is left."""
    lobby, mended, invariant = (example(name) for name in ("lobby", "mended", "nobody_is_left_online"))
    async with example("Presence").open(tmp_path / "presence.db") as presence:

        async def swept(handler: Any) -> labkit.Strip:
            on = "aiohttp-cancel"
            return await labkit.moments(partial(handler, presence), on, "reset", holds=invariant(presence))

        bad, good = await swept(lobby), await swept(mended)
        left = await presence._database.execute_fetchall("SELECT count(*) FROM online")
    source, first = bad.source[1].splitlines(), bad.source[0]
    rows = bad.rows()
    assert [row["holds"] for row in rows] == [False] + [True] * (len(rows) - 1)
    assert "presence.enter" in source[rows[0]["line"] - first]
    assert [*left] == [(1,)]  # the broken moment's, and no other run's
    assert len(good) == len(bad)
    assert {row["holds"] for row in good.rows()} == {True}
    assert "presence.enter" in good.source[1].splitlines()[good.rows()[0]["line"] - good.source[0]]
