"""Bugs of custom signals and forecasts: unknown taken for nothing, telling taken for acting."""

from typing import Any, Final

import msgspec

import autoscaler.decide.demand.forecast
import autoscaler.observe.signals
from tests.soak.mutants.put import Mutant, put


def unknown_signals_are_calm() -> None:
    """A signal without an answer is 0."""
    parsed = autoscaler.observe.signals._parsed

    def calm(signal: Any, texts: Any, policy: Any) -> Any:
        seen = parsed(signal, texts, policy)
        if not seen.problem:
            return seen
        return msgspec.structs.replace(seen, now=0.0, least=0.0, most=0.0, problem="")

    put(autoscaler.observe.signals, "_parsed", calm)


def shadow_acts() -> None:
    """What is only to be told is done."""
    module = autoscaler.decide.demand.forecast
    for name in ("_signals", "_keeping"):
        act = getattr(module, name)
        put(module, name, lambda foreseen, act=act: act(msgspec.structs.replace(foreseen, mode="on")))


MUTANTS: Final[tuple[Mutant, ...]] = (unknown_signals_are_calm, shadow_acts)
