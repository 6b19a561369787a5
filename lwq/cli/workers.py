"""The options that say who carries steps out: workers of this machine, or those of a scheduler."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import click

from lwq.errors import UsageError

if TYPE_CHECKING:
    from lwq.cli.settings import Settings
    from lwq.plan.dispatch import Dispatcher

_MOST: Final = 1024
WORKERS = click.option(
    "--workers",
    type=click.IntRange(1, _MOST),
    default=1,
    envvar="LWQ_WORKERS",
    help="Carry out so many steps side by side on this machine, each on its share of the cores, as memory allows."
    " 1 when absent, since llama.cpp spreads one step over all cores already: more are good for small models, for steps"
    " of one thread, and where there are many cores.",
)
SCHEDULER = click.option(
    "--scheduler",
    metavar="ADDRESS",
    default="",
    envvar="LWQ_SCHEDULER",
    help="Carry steps out on the workers of this dask scheduler, tcp://HOST:PORT (docs/cluster.md).",
)
_DETACH = click.option(
    "--detach",
    is_flag=True,
    help="With --scheduler: what workers have begun when this is interrupted goes on there, and the next run has it.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """What was asked for."""

    workers: int = 1
    scheduler: str = ""
    detach: bool = False

    def __post_init__(self) -> None:
        if self.detach and not self.scheduler:
            hint = "workers of this machine end with the command; `--scheduler` names others"
            raise UsageError("--detach: is for workers of a scheduler, and none is named", hint=hint)

    @property
    def is_of_many(self) -> bool:
        return self.workers > 1 or bool(self.scheduler)

    @contextmanager
    def crew(self, settings: Settings, on_note: Callable[[str], None]) -> Iterator[Dispatcher | None]:
        """Who carries steps out; None: this process, one after another."""
        if not self.is_of_many:
            yield None
            return
        from lwq.plan.crews import crew_of

        with crew_of(
            settings.machine(),
            settings.device,
            n_workers=self.workers,
            scheduler=self.scheduler,
            leave=self.detach,
            on_note=on_note,
        ) as crew:
            yield crew


def pool_options(command: Any) -> Any:
    """``--workers``, ``--scheduler`` and ``--detach`` of a command that carries steps out."""
    for option in (_DETACH, SCHEDULER, WORKERS):
        command = option(command)
    return command
