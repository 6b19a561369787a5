"""The ``lwq`` command: options, output and exit codes; the entry point."""

from __future__ import annotations

import importlib
import io
import os
import signal
import sys
from types import FrameType
from typing import Any, NoReturn

import click

from lwq import __version__
from lwq.errors import Interrupted, LwqError

# command -> (module in lwq.cli, its one line in `lwq --help`); modules are imported when called
COMMANDS = {
    "init": ("recipe", "Write a commented recipe for a model."),
    "plan": ("run", "Show steps, sizes, disk and time of recipes; run nothing costly."),
    "run": ("run", "Carry out recipes and write their model cards."),
    "status": ("queue", "Show which recipes are running, queued and done."),
    "stop": ("queue", "Stop what is running; take out what is queued."),
    "resume": ("queue", "Go on with what was stopped, broke off or failed."),
    "sensitivity": ("measured", "Measure how much each tensor of a model matters."),
    "allocate": ("allocate", "Choose types within budgets, by predicted damage."),
    "prune-scores": ("prune", "Measure what removing each layer of a model costs."),
    "prune": ("prune", "Write a model without some layers, healed."),
    "drop-mtp": ("further", "Write a model without the blocks that predict further tokens."),
    "bench": ("bench", "Tokens per second of GGUFs, measured in turns."),
    "eval": ("compare", "Measure PPL, KLD and task scores of GGUFs."),
    "compare": ("compare", "Put GGUFs of one model side by side."),
    "why": ("run", "Say why a step of a recipe is done, or would run again."),
    "stats": ("look", "Print the statistics of an importance matrix."),
    "inspect": ("look", "Print types, sizes and bits per weight of a GGUF."),
    "card": ("card", "Write the model card again from a record."),
    "publish": ("publish", "Publish a finished run's files and card on the Hugging Face Hub."),
    "verify": ("publish", "Say where a GGUF comes from and whether it is whole."),
    "index": ("publish", "Write one page over the reports of many runs."),
    "diff": ("publish", "Say what differs between two runs, and whether by more than noise."),
    "recipe": ("recipe", "Check a recipe; print the schema."),
    "toolchain": ("toolchain", "Build, show or examine the pinned llama.cpp."),
    "cache": ("cache", "List finished steps; compare them with their hashes; remove what no recipe needs."),
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called, so that help is quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"lwq.cli.{COMMANDS[cmd_name][0]}")
        command: click.Command = getattr(module, f"{cmd_name.replace('-', '_')}_command")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        import difflib

        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            near = difflib.get_close_matches(args[0], list(COMMANDS), n=1)
            if not near:
                raise
            raise click.UsageError(f"{error.message} Perhaps you meant {near[0]!r}.", ctx) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "LWQ"})
@click.version_option(__version__, "-V", "--version", prog_name="lwq")
@click.option("-q", "--quiet", count=True, help="Only results and errors.")
@click.option("-v", "--verbose", count=True, help="Also the command lines of the tools.")
@click.option("--llama-dir", metavar="DIR", help="Use this llama.cpp instead of the pinned build.")
@click.option("--threads", type=click.IntRange(1, 1024), help="Threads of the tools; one per core when absent.")
@click.option(
    "--device", metavar="DEVICE", default="auto", help="auto, cpu, gpu, gpu:N or rpc://HOST:PORT[,HOST:PORT…]."
)
@click.pass_context
def cli(ctx: click.Context, quiet: int, verbose: int, llama_dir: str | None, threads: int | None, device: str) -> None:
    """Layer-wise quantization for llama.cpp, by measurement.

    Every option can be set in the environment: LWQ_LLAMA_DIR, LWQ_DEVICE, …; LWQ_HOME moves the cache.
    Exit codes: 0 done, 1 failed, 2 wrong usage or recipe, 130 interrupted.
    """
    from lwq.cli.settings import Settings

    ctx.obj = Settings(verbosity=verbose - quiet, llama_dir=llama_dir, threads=threads, device=device)


def main() -> NoReturn:
    """Entry point: runs a command and turns what went wrong into a message and an exit code."""
    _in_utf8()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupted)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a name of a file need not be UTF-8
    try:
        code = _run(sys.argv[1:])
        _hear_no_more()
    except Interrupted as error:  # once more, while the first was told
        _hear_no_more()
        code = _fail(error)
    sys.exit(code)


def _in_utf8() -> None:
    """Begins anew where Python took the locale's word for it that names of files are of another encoding than UTF-8.

    Names in recipes would not be found then, and a cache would look as if it lacked files.
    """
    if sys.getfilesystemencoding().lower() not in ("utf-8", "utf8") and not sys.flags.utf8_mode:
        os.execv(sys.executable, [sys.orig_argv[0], "-X", "utf8", *sys.orig_argv[1:]])


def _run(arguments: list[str]) -> int:
    try:
        result: Any = cli.main(args=arguments, prog_name="lwq", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return 2
    except LwqError as error:
        return _fail(error)
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    except Exception as error:
        from lwq.cli.crash import in_words

        return _fail(in_words(error, arguments))
    return result if isinstance(result, int) else 0


def _fail(error: LwqError) -> int:
    click.echo(f"lwq: {error.message}", err=True)
    if error.hint:
        click.echo(f"hint: {error.hint}", err=True)
    return error.exit_code


def _hear_no_more() -> None:
    """What is left is to end: a signal would only leave a traceback, and temporary files."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda signum, frame: None)  # SIG_IGN would tell of one that is under way


def _interrupted(signum: int, frame: FrameType | None) -> None:
    raise Interrupted("interrupted", hint="finished steps are kept; the same command goes on from there")
