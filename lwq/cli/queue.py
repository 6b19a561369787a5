"""``lwq status``, ``lwq stop`` and ``lwq resume``."""

from __future__ import annotations

import dataclasses
import difflib
import sys
import textwrap
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from lwq.cli.progress import clock
from lwq.cli.settings import Settings
from lwq.cli.tables import WIDTH, print_json, print_table, shortened
from lwq.cli.workers import Pool, pool_options
from lwq.errors import Interrupted, LwqError, UsageError
from lwq.store.ledger import AtWork, Ledger, Order

if TYPE_CHECKING:
    from lwq.plan.job import Asked

_REFRESH_SECONDS: Final = 2.0
_RECENT_SECONDS: Final = 24 * 3600.0
_STOP_SECONDS: Final = 30.0
_TIMES: Final = ("queued", "started", "finished", "step_since")
_STEP_WIDTH: Final = 18
_HEADS: Final = ("recipe", "state", "since", "process", "step", "steps", "left")
_AT_WORK: Final = ("at work", "where", "recipe", "since", "done", "left")
NAMES = click.argument("names", metavar="[NAME…]", nargs=-1)


@click.command("status")
@click.option("--watch", is_flag=True, help="On a terminal: show it anew until nothing runs.")
@click.option("--all", "is_all", is_flag=True, help="Also what was done more than a day ago.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@click.pass_obj
def status_command(settings: Settings, watch: bool, is_all: bool, as_json: bool) -> None:
    """Show which recipes are running, queued and done, at which step, and about how long they still take.

    What a process that is no more had begun is interrupted; it and what is stopped, failed or queued for nobody waits
    for `lwq resume`.
    """
    ledger = Ledger(settings.cache().root)
    if as_json:
        print_json([_values(order) for order in _shown(ledger, is_all=is_all)])
        return
    if not (watch and sys.stdout.isatty()):
        _print(_shown(ledger, is_all=is_all))
        return
    try:
        while True:
            orders = _shown(ledger, is_all=is_all)
            click.clear()
            _print(orders)
            if not any(order.is_attended for order in orders):
                return
            time.sleep(_REFRESH_SECONDS)
    except Interrupted:
        return


def _shown(ledger: Ledger, *, is_all: bool) -> tuple[Order, ...]:
    since = time.time() - _RECENT_SECONDS
    return tuple(o for o in ledger.orders() if is_all or o.state != "done" or (o.finished or 0.0) > since)


def _values(order: Order) -> dict[str, Any]:
    values = dataclasses.asdict(order) | {"left_seconds": _left(order)}
    for name in _TIMES:
        if values[name] is not None:
            values[name] = _stamp(values[name])
    values["at_work"] = [one | {"since": _stamp(one["since"])} for one in values["at_work"]]
    del values["born"], values["stop_asked"]
    return values


def _stamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _print(orders: Sequence[Order]) -> None:
    if not orders:
        click.echo("nothing is running, queued or done lately")
        return
    print_table(_HEADS, map(_row, orders), left=5, spare=("process", "steps"))
    if at_work := [(order, one) for order in orders for one in order.at_work]:
        click.echo()
        print_table(_AT_WORK, [_row_at_work(*pair) for pair in at_work], left=3, spare=("recipe",))
    left = [seconds for order in orders if order.is_attended and (seconds := _left(order))]
    if len(left) > 1:
        click.echo(f"\nin all about {clock(sum(left))} left")
    for order in orders:
        if order.error:
            click.echo("\n" + _wrapped(f"{order.name}: {order.error.splitlines()[0]}"))
            if order.hint:
                click.echo(_wrapped(f"hint: {order.hint}"))
    if is_open := [order for order in orders if order.is_open]:
        click.echo("\n" + _wrapped(f"`lwq resume` goes on with {_list(is_open)}"))


def _wrapped(text: str) -> str:
    return textwrap.fill(text, WIDTH, break_on_hyphens=False, break_long_words=False)


def _row(order: Order) -> tuple[str, ...]:
    is_running = order.state == "running"
    within = f" {order.step_done}/{order.step_total}" if order.step_done else ""
    step = shortened(order.step or "getting ready", _STEP_WIDTH - len(within)) + within if is_running else order.step
    left = _left(order) if order.is_attended else None
    return (
        shortened(order.name, 20),
        order.state,
        _when((order.started if is_running else order.finished) or order.queued),
        str(order.pid) if is_running else "",
        shortened(step, _STEP_WIDTH) if order.state not in ("done", "queued") else "",
        f"{order.n_done}/{order.n_steps}" if order.n_steps else "",
        clock(left) if left else "",
    )


def _row_at_work(order: Order, one: AtWork) -> tuple[str, ...]:
    """What runs where, since when, how far it is, and what is left of it."""
    left = max(0.0, one.left_seconds - max(0.0, time.time() - one.since)) if one.left_seconds is not None else None
    return (
        shortened(one.step, 30),
        shortened(one.where or "here", 21),
        shortened(order.name, 12),
        _when(one.since),
        f"{one.done}/{one.total}" if one.done else "",
        clock(left) if left is not None else "",
    )


def _left(order: Order) -> float | None:
    """Seconds that it still takes, counted down since the step began."""
    if order.left_seconds is None or order.state == "done":
        return None
    spent = time.time() - order.step_since if order.state == "running" and order.step_since else 0.0
    return max(0.0, order.left_seconds - max(0.0, spent))


def _when(seconds: float) -> str:
    """``03:25``, or of another day ``11-28 03:25``, in local time."""
    then, now = datetime.fromtimestamp(seconds), datetime.now()
    return then.strftime("%H:%M" if then.date() == now.date() else "%m-%d %H:%M")


@click.command("stop")
@NAMES
@click.option("--forget", is_flag=True, help="Also take them off the list, so that `lwq resume` leaves them.")
@click.pass_obj
def stop_command(settings: Settings, names: tuple[str, ...], forget: bool) -> None:
    """Stop the recipes NAME, all when absent: what runs as ^C does, what is queued before it begins.

    Finished steps are kept. What else the stopped process has queued goes on.
    """
    from lwq.plan.queue import stop

    ledger = Ledger(settings.cache().root)
    orders = _named(ledger.orders(), names)
    chosen = [order for order in orders if order.state in ("queued", "running")]
    left = stop(ledger, chosen, seconds=_STOP_SECONDS)
    if stopped := [order for order in chosen if order.id not in {o.id for o in left}]:
        click.echo(f"stopped: {_list(stopped)}")
    if left:
        told = f"{_list(left)}: asked to stop, not ended after {_STOP_SECONDS:.0f} s"
        raise LwqError(told, hint="it may be writing a large file; `lwq status` shows when it has")
    ids = {order.id for order in orders}
    gone = [order for order in ledger.orders() if order.id in ids and order.state != "running"] if forget else []
    if gone:
        ledger.forget(order.id for order in gone)
        click.echo(f"off the list: {_list(gone)}")
    elif not chosen:
        click.echo("nothing of that is running or queued" if names else "nothing is running or queued")


@click.command("resume")
@NAMES
@pool_options
@click.option("--json", "as_json", is_flag=True, help="Print what was written as JSON.")
@click.pass_obj
def resume_command(
    settings: Settings, names: tuple[str, ...], as_json: bool, workers: int, scheduler: str, detach: bool
) -> None:
    """Go on with the recipes NAME, or with all that are queued for nobody, stopped, interrupted or failed.

    Each is read anew and carried out with its own arguments in its own working directory, in the order in which they
    were queued; finished steps are kept.
    """
    from lwq.cli.batch import carry_out_all
    from lwq.store.living import Living

    pool, ledger = Pool(workers=workers, scheduler=scheduler, detach=detach), Ledger(settings.cache().root)
    orders = _named(ledger.orders(), names)
    taken = ledger.queue_again((order.id for order in orders if order.is_open), Living.me())
    if not taken and not as_json:
        click.echo(f"nothing to go on with{': ' + _states(orders) if names else ''}")
        return
    asked = {order.id: _asked(order) for order in taken}
    carry_out_all(ledger, taken, asked, settings, pool=pool, as_json=as_json)


def _asked(order: Order) -> Asked | LwqError:
    """The recipe of an order as its file is now, or why it cannot be read."""
    from lwq.cli.job import in_folder
    from lwq.plan.reading import read_file, read_recipe

    model, path = order.arguments["model"], Path(order.recipe)
    try:
        with in_folder(Path(order.cwd)):
            if model:
                return read_recipe(path, model)
            read = read_file(path)
    except LwqError as error:
        return error
    found = [one.asked for one in read if one.asked.recipe.name == order.name or not one.is_of_family]
    hint = "`lwq stop --forget` takes it off the list"
    return found[0] if found else UsageError(f"{path}: no model of it is named {order.name!r} any more", hint=hint)


def _named(orders: Sequence[Order], names: Iterable[str]) -> tuple[Order, ...]:
    """The orders of these names, all of them where none is given."""
    names, known = tuple(names), [order.name for order in orders]
    if strange := next((name for name in names if name not in known), ""):
        near = difflib.get_close_matches(strange, known, n=1)
        listed = f"perhaps you meant {near[0]!r}; `lwq status` lists all" if near else "`lwq status --all` lists all"
        raise UsageError(f"{strange!r} is not on the list of runs", hint=listed)
    return tuple(order for order in orders if not names or order.name in names)


def _list(orders: Iterable[Order]) -> str:
    return ", ".join(order.name for order in orders)


def _states(orders: Iterable[Order]) -> str:
    return ", ".join(f"{order.name} is {order.state}" for order in orders)
