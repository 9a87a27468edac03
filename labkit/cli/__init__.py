"""The command line: ``labkit play``, ``labkit matrix``, ``labkit doctor``, ``labkit lab`` and the rest."""

from labkit.cli.commands import main

__all__ = ["main"]
