"""Orders carried out one at a time, each client's own in their order; how one is carried out is not known here."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Final, Protocol

from lwq.errors import FileError, Interrupted, LwqError, SpaceError
from lwq.store.ledger import End, Ledger, Order
from lwq.store.signals import signals_held

_LOOK_SECONDS: Final = 0.5
_SIGNAL_SECONDS: Final = 2.0
"""How long a signal may take from the moment on that the ledger says that it is sent."""


class Carrier(Protocol):
    """Carries out an order, wherever that is; raises LwqError where it fails, Interrupted where it was stopped."""

    def __call__(self, order: Order) -> None: ...


class Client(Protocol):
    """Who handed the orders in, and is told what becomes of them."""

    def waits(self, other: Order) -> None:
        """An order of somebody else comes before ours."""

    def ended(self, order: Order, fault: LwqError | None) -> None:
        """An order is done, or failed or was stopped by this."""


def work_off(ledger: Ledger, orders: Sequence[Order], carry: Carrier, client: Client) -> None:
    """Carries out the orders in turn; one that fails or is stopped leaves the others as they are.

    Raises:
        Interrupted: by the user; what has not begun stays queued.
    """
    for order in sorted(orders, key=lambda order: order.id):
        fault: LwqError | None = None
        try:
            with noted(ledger, order.id, partial(is_our_turn, ledger, order.id, client)) as is_taken:
                if is_taken:
                    carry(order)
                else:
                    fault = StoppedOrder("stopped before it began")
        except StoppedOrder as error:
            fault = error
        except Interrupted:
            raise
        except LwqError as error:
            fault = error
        client.ended(order, fault)


class StoppedOrder(Interrupted):
    """One order was stopped by `lwq stop`; what else is queued goes on."""


@contextmanager
def noted(ledger: Ledger, order: int, begin: Callable[[], bool] = lambda: True) -> Iterator[bool]:
    """Whether ``begin`` says that the order runs; how what is done inside ended is noted, and raised on.

    Raises:
        StoppedOrder: somebody asked for that; else what was raised inside.
    """
    is_taken = False
    try:
        is_taken = begin()
        yield is_taken
    except Interrupted as error:
        if _ended(ledger, order, "stopped"):
            raise StoppedOrder("stopped", hint="`lwq resume` goes on with it") from error
        raise
    except Exception as error:
        told = error if isinstance(error, LwqError) else LwqError(f"unexpected {type(error).__name__}: {error}")
        _ended(ledger, order, "failed", told)
        raise
    if is_taken:
        _ended(ledger, order, "done")


def _ended(ledger: Ledger, order: int, end: End, error: LwqError | None = None) -> bool:
    """Whether somebody had asked the order to stop; then the signal that was sent for it is not taken for another's.

    That it could not be noted is no reason to fail, and hides no reason why the order did.
    """
    asked = False
    try:
        with signals_held(), suppress(FileError, SpaceError):
            asked = ledger.finish(order, end, error=error.message if error else "", hint=error.hint if error else "")
        if asked and end != "stopped":
            time.sleep(_SIGNAL_SECONDS)
    except Interrupted:
        if not asked:
            raise
    return asked


def is_our_turn(ledger: Ledger, order: int, client: Client) -> bool:
    """Waits until nothing runs here and nothing that was queued before is to run; False where it is queued no more."""
    told = 0
    while True:
        with signals_held():
            is_taken, other = ledger.take(order)
        if other is None:
            return is_taken
        if other.id != told:
            client.waits(other)
            told = other.id
        time.sleep(_LOOK_SECONDS)


def stop(ledger: Ledger, orders: Sequence[Order], *, seconds: float) -> tuple[Order, ...]:
    """Those of the orders that still run after so long; queued ones are taken out, running ones are asked as by ^C."""
    wanted, asked, end = {order.id for order in orders}, set[int](), time.monotonic() + seconds
    while True:
        left = [o for o in ledger.orders() if o.id in wanted and o.state in ("queued", "running")]
        if not left or time.monotonic() > end:
            return tuple(left)
        for order in sorted(left, key=lambda order: order.state):  # queued ones first: none of them is to begin now
            if order.state == "queued":
                ledger.take_out(order.id)
            elif order.id not in asked and (process := ledger.ask_to_stop(order.id)):
                asked.add(order.id)
                _interrupt(order, process.pid)
        time.sleep(_LOOK_SECONDS / 2)


def _interrupt(order: Order, pid: int) -> None:
    try:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGINT)
    except PermissionError:
        hint = "ask who started it, or stop it as that user"
        raise FileError(f"{order.name}: process {pid} runs it, of another user", hint=hint) from None
