"""The command line: one module a command group, imported when its command is called."""

import importlib
import os
import sys
import tempfile
from typing import Any

import click

from batterylab import __version__
from batterylab.errors import BatterylabError

#: command -> (module of this package, attribute, the line that the help shows)
COMMANDS: dict[str, tuple[str, str, str]] = {
    "demo": ("demo", "demo", "See the whole job done on a simulated bench."),
    "doctor": ("doctor", "doctor", "Say what this machine has and lacks."),
    "study": ("study", "study", "Make, check and plan a study."),
    "protocol": ("protocol", "protocol", "Show, check, simulate, plan and convert protocols."),
    "bench": ("bench", "bench", "Check or simulate a bench of instruments."),
    "load": ("load", "load", "Bind cells to channels, and check them first."),
    "unload": ("load", "unload", "Take cells out of their channels."),
    "run": ("run", "run", "Run the study's protocols on the loaded cells."),
    "status": ("run", "status", "Say what is running."),
    "stop": ("run", "stop", "Put every channel in its safe state."),
    "pause": ("run", "pause", "Make every channel safe, and keep the run to be resumed."),
    "resume": ("run", "resume", "Go on with a paused or broken run where it was."),
    "import": ("importing", "import_", "Read other cyclers' files into an archive."),
    "archive": ("archive", "archive", "List, show and verify sealed recordings."),
    "features": ("features", "features", "Draw features from recordings."),
    "fit": ("fit", "fit", "Fit models to recordings."),
    "score": ("score", "score", "Compare suppliers and lots, and decide."),
    "report": ("report", "report", "Write the report."),
    "plot": ("report", "plot", "Plot a recording."),
    "trace": ("report", "trace", "Follow a figure of the report to its samples."),
}


class LazyGroup(click.Group):
    """A group that imports a command's module when the command is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order of a study's life."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command."""
        if cmd_name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[cmd_name]
        command = getattr(importlib.import_module(f"batterylab.cli.{module}"), attribute)
        if not isinstance(command, click.Command):
            raise TypeError(f"{module}.{attribute} is not a command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, _, line) in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Offer the nearest command for an unknown one."""
        import difflib

        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            ctx.fail(f"no such command {args[0]!r}.{hint}")
        return super().resolve_command(ctx, args)


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 environment failed, 2 wrong use, 3 limit not met, "
    "4 stopped for safety, 130 interrupted.",
)
@click.version_option(__version__, prog_name="batterylab")
def cli() -> None:
    """Test battery cells, compare their suppliers, keep the evidence.

    \b
    Examples:
      batterylab demo
      batterylab study init my-study
      batterylab import cycler-files/*.ndax --into my-study/archive --cell S1
      batterylab score my-study
    """  # noqa: D301


def main(argv: list[str] | None = None) -> None:
    """Run the command line and leave with the design's exit codes."""
    try:
        code = cli.main(args=argv, standalone_mode=False)
    except BatterylabError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        click.echo("Interrupted.", err=True)
        sys.exit(130)
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123
        sys.exit(0)
    except Exception as error:  # the last resort: a log, never a traceback
        click.echo(_unexpected(error), err=True)
        sys.exit(1)
    sys.exit(code if isinstance(code, int) else 0)


def _unexpected(error: Exception) -> str:
    """Write the traceback to a file of its own and return the line that names it."""
    import traceback

    handle, name = tempfile.mkstemp(prefix="batterylab-error-", suffix=".log")
    with os.fdopen(handle, "w", encoding="utf-8") as stream:
        stream.write(f"batterylab {__version__}, Python {sys.version}\n{sys.argv}\n\n")
        traceback.print_exception(error, file=stream)
    what = f"{type(error).__name__}: {error}".splitlines()[0]
    return f"Error: this is a fault of batterylab: {what}\n  hint: please report it with {name}"


def echo_json(data: Any) -> None:
    """Print one JSON object on stdout."""
    import json

    click.echo(json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False, default=str))
