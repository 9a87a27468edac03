"""The command ``labkit``: it finds its commands by their files, and tells each error in one sentence."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, Final, NoReturn

import rich_click as click
from click.exceptions import Abort, ClickException, Exit

from labkit.cli import commands
from labkit.cli.output import INTERRUPTED, complain, width
from labkit.errors import LabError, UnknownName

__all__ = ["main"]

_STATUS: Final = (
    "The exit status is 0; 1 where something is not as expected: a rule is broken, an invariant does not hold, or what"
    " --expect names is another; 2 for a mistake, in one sentence; and 130 after Ctrl+C."
)

#: Below this width, in characters, help has no column for what an option takes.
_NARROW: Final = 80


class Group(click.RichGroup):
    """Its commands are the modules of the folder ``commands``; each has its command under its own name."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's own
        """List the names."""
        return sorted(module.name for module in iter_modules(commands.__path__))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command when it is asked for."""
        if cmd_name not in self.list_commands(ctx):
            return None
        command: click.Command = getattr(import_module(f"{commands.__name__}.{cmd_name}"), cmd_name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or say which there are."""
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            raise UnknownName("command", name, self.list_commands(ctx))
        return super().resolve_command(ctx, args)

    def main(self, *args: Any, **extra: Any) -> NoReturn:
        """Run a command, and exit: with 1 where it is not as expected, with 2 for a mistake, with 130 for Ctrl+C."""
        for stream in (sys.stdout, sys.stderr):
            if (reconfigure := getattr(stream, "reconfigure", None)) is not None:
                reconfigure(errors="backslashreplace")  # a sign that the terminal's encoding does not have
        sys.exit(self._status(*args, **extra))

    def _status(self, *args: Any, **extra: Any) -> int:
        try:
            try:
                returned = super().main(*args, **{**extra, "standalone_mode": False})
                return returned if isinstance(returned, int) else 0
            except Exit as ended:
                return ended.exit_code
            except ClickException as mistake:
                usage = getattr(mistake, "ctx", None)
                complain(mistake.format_message(), hint=f"{usage.command_path} --help" if usage else "labkit --help")
                return mistake.exit_code
            finally:
                _flush()
        except (Abort, KeyboardInterrupt):
            # Interrupted in code that is a string, as that which makes a dataclass or a named tuple, Python would end
            # `python -m labkit` by the signal, caught or not; until the next string.
            exec("")  # noqa: S102
            return INTERRUPTED
        except BrokenPipeError:
            _silence()  # the reader has left
            return 1
        except (LabError, OSError) as error:
            with suppress(OSError):
                complain(str(error))
            return 2


def _flush() -> None:
    """Write the rest of the buffer now, while an error can still be reported in one sentence."""
    try:
        print(end="", flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        _silence()
        raise LabError(f"the output cannot be written: {error.strerror or error}") from error


def _silence() -> None:
    """Write what is left to os.devnull, which cannot fail: Python tries again at its exit, and prints a traceback."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, sys.stdout.fileno())
    os.close(devnull)


def _help() -> click.RichHelpConfiguration:
    """How help is written: on a narrow terminal, what an option takes stands behind its text and not in a column."""
    narrow = width() < _NARROW
    return click.RichHelpConfiguration(
        max_width=100,
        text_markup=None,
        text_paragraph_linebreaks="\n\n",
        show_arguments=True,
        options_table_column_types=["required", "opt_all", "help"]
        if narrow
        else ["required", "opt_all", "metavar", "help"],
        options_table_help_sections=["help", "metavar", "default"] if narrow else ["help", "default"],
    )


@click.group(cls=Group, epilog=_STATUS, context_settings={"help_option_names": ["-h", "--help"]})
@click.rich_config(help_config=_help())
@click.version_option(package_name="labkit", message="labkit %(version)s, The Disconnect Lab")
def main() -> None:
    """What happens to a WebSocket handler when its client goes away?"""
