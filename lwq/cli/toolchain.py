"""``lwq toolchain``: build, show and examine llama.cpp."""

from __future__ import annotations

from pathlib import Path

import click

from lwq.cli.progress import showing
from lwq.cli.settings import Settings
from lwq.cli.tables import print_json


@click.group("toolchain")
def toolchain_command() -> None:
    """Build, show or examine the pinned llama.cpp."""


@toolchain_command.command("build")
@click.option(
    "--backend", type=click.Choice(["auto", "cpu", "metal", "cuda", "vulkan", "rpc"]), default="auto", show_default=True
)
@click.option("--jobs", type=click.IntRange(1), help="Compilers at once; one per core when absent.")
@click.option(
    "--source",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Take the pinned commit from this git clone of llama.cpp, not from the network.",
)
@click.pass_obj
def build(settings: Settings, backend: str, jobs: int | None, source: Path | None) -> None:
    """Fetch, build and install the pinned llama.cpp; a broken-off build goes on."""
    from lwq.llama.build import build as build_toolchain

    with showing(settings.verbosity) as progress:
        progress.n_steps = 1
        toolchain = build_toolchain(backend=backend, jobs=jobs, on_progress=progress.show, source=source)
    click.echo(f"llama.cpp {toolchain.commit[:12]} ({toolchain.backend}): {toolchain.bin_dir}")


@toolchain_command.command("converter")
@click.pass_obj
def converter(settings: Settings) -> None:
    """Fetch what converts Hugging Face folders: a Python environment (1.1 GB), sources; else done when first needed."""
    from lwq.llama.converter import script
    from lwq.llama.converter_env import converter_python

    with showing(settings.verbosity) as progress:
        python = converter_python(progress.show)
        program = script(progress.show)
    click.echo(f"the converter's Python: {python}\nthe converter: {program}")


@toolchain_command.command("serve")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address of this machine to listen on, no other.")
@click.option("--port", type=click.IntRange(1, 65535), default=50052, show_default=True, help="Port to listen on.")
@click.pass_obj
def serve(settings: Settings, host: str, port: int) -> None:
    """Lend this machine's devices to another lwq: llama.cpp's RPC server, until ^C.

    There, `lwq --device rpc://HOST:PORT` computes here, and rpc://HOST:PORT,HOST:PORT on several machines, for a model
    that fits on none. Whoever reaches the address can use it: there is no authentication.
    """
    from lwq.llama.server import NO_GUARD, serve
    from lwq.llama.toolchain import find_server

    toolchain = find_server()
    click.echo(f"rpc://{host}:{port} (llama.cpp {toolchain.commit[:12]}, {toolchain.backend}); ^C ends it", err=True)
    click.echo(f"warning: {NO_GUARD}", err=True)

    def said(_: str, text: str) -> None:
        click.echo(text, nl=False, err=True)

    serve(toolchain, host, port, settings.n_threads(), said, lambda why: click.echo(f"{why}; started again", err=True))


@toolchain_command.command("show")
@click.option("--bin", "only_bin", is_flag=True, help="Only the folder of the programs, for PATH.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@click.pass_obj
def show(settings: Settings, only_bin: bool, as_json: bool) -> None:
    """Say which llama.cpp is used."""
    toolchain = settings.toolchain()
    if only_bin:
        click.echo(toolchain.bin_dir)
        return
    facts = {
        "commit": toolchain.commit,
        "backend": toolchain.backend,
        "compiler": toolchain.compiler,
        "flags": list(toolchain.flags),
        "stock": toolchain.stock,
        "bin": str(toolchain.bin_dir),
        "lib": str(toolchain.lib_dir),
    }
    if as_json:
        print_json(facts)
        return
    for name, value in facts.items():
        click.echo(f"{name:<10}{' '.join(value) if isinstance(value, list) else value}")


@toolchain_command.command("doctor")
@click.pass_context
def doctor(ctx: click.Context) -> None:
    """Check what lwq needs: PASS, WARN or FAIL, with the way out on the next line."""
    from lwq.llama.doctor import doctor as examine

    settings: Settings = ctx.obj
    checks = examine(Path(settings.llama_dir) if settings.llama_dir else None)
    for check in checks:
        click.echo(f"{check.status}  {check.name}: {check.detail}")
        if check.fix and check.status != "PASS":
            click.echo(f"      {check.fix}")
    ctx.exit(1 if any(check.status == "FAIL" for check in checks) else 0)
