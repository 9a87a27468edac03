"""Matrices: handlers × stacks × faults, each cell an experiment of its own."""

from __future__ import annotations

from labkit.matrices.playing import matrix
from labkit.matrices.result import Matrix

__all__ = ["Matrix", "matrix"]
