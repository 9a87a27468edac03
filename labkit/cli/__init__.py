"""The command line: one file a command, in the folder ``commands``, and what the commands have in common."""

from labkit.cli.group import main

__all__ = ["main"]
