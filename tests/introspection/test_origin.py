"""Where something is made is told in words of the reader's."""

from __future__ import annotations

import pytest

from labkit.introspection.origin import name_file


@pytest.mark.parametrize(
    ("file", "name"), [("/home/ann/shop/pool.py", "pool.py"), ("/tmp/ipykernel_71/260647508.py", "another cell")]
)
def test_a_cell_of_a_notebook_is_named_as_one(file: str, name: str) -> None:
    """Its file is made up by the kernel, and the reader has never seen it."""
    assert name_file(file) == name
