"""Matrices: handlers × stacks × faults. Each cell is a separate experiment."""

from __future__ import annotations

from labkit.matrices.playing import matrix
from labkit.matrices.result import Matrix

__all__ = ["Matrix", "matrix"]
