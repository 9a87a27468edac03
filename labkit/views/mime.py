"""Which forms of an object a notebook asks for."""

from __future__ import annotations

from collections.abc import Collection, Sequence

__all__ = ["chosen"]


def chosen(
    kinds: Sequence[str], include: Collection[str] | None = None, exclude: Collection[str] | None = None
) -> list[str]:
    """Choose MIME types, as IPython's ``_repr_mimebundle_`` is asked to.

    Args:
        kinds: what there is.
        include: what is wanted; all, if None or empty.
        exclude: what is not wanted.

    Returns:
        What to make, in the order of ``kinds``.
    """
    return [kind for kind in kinds if (not include or kind in include) and kind not in (exclude or ())]
