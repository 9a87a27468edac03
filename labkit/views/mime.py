"""The MIME types that a notebook asks an object for."""

from __future__ import annotations

from collections.abc import Collection, Sequence

__all__ = ["choose"]


def choose(
    kinds: Sequence[str], include: Collection[str] | None = None, exclude: Collection[str] | None = None
) -> list[str]:
    """Choose MIME types by the arguments that IPython passes to ``_repr_mimebundle_``.

    Args:
        kinds: the MIME types that the object can make.
        include: the MIME types to make; all if None or empty.
        exclude: the MIME types not to make.

    Returns:
        The MIME types to make, in the order of ``kinds``.
    """
    return [kind for kind in kinds if (not include or kind in include) and kind not in (exclude or ())]
