"""How long a run still takes, anew after every step: what was forecast, at the pace that steps of this run had."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from lwq.plan.forecast import Forecast
from lwq.plan.plan import AnyStep


@dataclass(slots=True, kw_only=True)
class TimeLeft:
    """Steps that are still to do."""

    forecast: Forecast
    kinds: dict[str, str]
    """Key → kind, of steps that are still to do."""
    paces: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Kind → (seconds that its steps took in this run, seconds that were forecast)."""
    keys: dict[str, str] = field(default_factory=dict)
    """Label → key."""
    n_places: Callable[[], int] = lambda: 1
    """How many steps may run at a time."""

    @classmethod
    def of(cls, steps: Iterable[AnyStep], forecast: Forecast, n_places: Callable[[], int] = lambda: 1) -> TimeLeft:
        steps = tuple(steps)
        kinds, keys = {step.key: step.module.NAME for step in steps}, {step.label: step.key for step in steps}
        return cls(forecast=forecast, kinds=kinds, keys=keys, n_places=n_places)

    def of_step(self, label: str) -> float | None:
        """Of one step from its beginning on, as far as that is known."""
        return self.forecast.by_key.get(self.keys.get(label, ""))

    def finished(self, key: str, seconds: float) -> None:
        """Notes that a step is done, and what it took if it ran now (0 if it was done before)."""
        kind, expected = self.kinds.pop(key, ""), self.forecast.by_key.get(key, 0.0)
        if kind and expected and seconds:
            took, foretold = self.paces.get(kind, (0.0, 0.0))
            self.paces[kind] = (took + seconds, foretold + expected)

    @property
    def seconds(self) -> float:
        """Of all steps whose time was forecast: at the pace of their kind, or nearer the forecast the more is left.

        Side by side they take the share of one place, and no less than the longest of them.
        """
        left = [(kind, self.forecast.by_key.get(key, 0.0)) for key, kind in self.kinds.items()]
        rest = sum(seconds for kind, seconds in left if kind not in self.paces)
        took, foretold = (sum(pace[i] for pace in self.paces.values()) for i in (0, 1))
        others = rest * (took + rest) / (foretold + rest) if rest else 0.0
        alone = others + sum(seconds * self._pace(kind) for kind, seconds in left if kind in self.paces)
        if (n_places := self.n_places()) < 2:
            return alone
        return max(alone / n_places, max((seconds * self._pace(kind) for kind, seconds in left), default=0.0))

    @property
    def unknown(self) -> tuple[str, ...]:
        """Kinds of costly steps that are still to do and whose time nobody knows."""
        return tuple(kind for kind in self.forecast.unknown if kind in self.kinds.values())

    def _pace(self, kind: str) -> float:
        """Seconds that steps of a kind took for each that was forecast."""
        took, foretold = self.paces.get(kind, (1.0, 1.0))
        return took / foretold
