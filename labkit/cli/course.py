"""The course's notebooks: where they are, and a copy of one's own."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from labkit.errors import LabError

__all__ = ["FIRST", "copy_course", "find_course"]

#: The notebook that `labkit lab` opens.
FIRST: Final = Path("notebooks", "00-start-here.ipynb")

#: What belongs to the course.
_FOLDERS: Final = (FIRST.parent, Path("examples"))

#: The folder ``labkit``. The wheel has the notebooks in it; a clone has them beside it.
_PACKAGE: Final = Path(__file__).resolve().parents[1]


def find_course() -> Path | None:
    """Find the folder whose folder ``notebooks`` is the course that came with labkit; None if none came."""
    return next((folder for folder in (_PACKAGE, _PACKAGE.parent) if (folder / FIRST).is_file()), None)


def copy_course(into: Path) -> list[Path]:
    """Copy the course into a folder. What is there already stays as it is: a learner may have changed it.

    Args:
        into: the folder, which need not exist; the course goes into its folders ``notebooks`` and ``examples``.

    Returns:
        The files that were there already and differ from the course's, sorted.

    Raises:
        LabError: this labkit came without the course, or a file cannot be written.
    """
    course = find_course()
    if course is None:
        raise LabError("this labkit came without the notebooks: python -m pip install 'labkit[notebooks]' brings them")
    kept = []
    try:
        for source in sorted(file for folder in _FOLDERS for file in (course / folder).rglob("*")):
            target = into / source.relative_to(course)
            parts = source.relative_to(course).parts
            if source.is_dir() or any(part.startswith((".", "__", "node_modules")) for part in parts):
                continue
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)
            elif target.read_bytes() != source.read_bytes():
                kept.append(target)
    except OSError as error:
        raise LabError(f"the notebooks cannot be copied into {into}: {error.strerror or error}") from error
    return kept
