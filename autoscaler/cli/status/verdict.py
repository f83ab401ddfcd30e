"""Whether it is alive, in words: pure. What is not known is no sign of life."""

import re
from collections.abc import Iterable
from enum import StrEnum
from typing import Any, Final

import msgspec

from autoscaler.cli.duration import say_duration
from autoscaler.cli.status.looks import LONGEST_S, Looks

DEFAULT_RATE_S: Final = 300
"""Of the sweep, where the stack does not tell: the longest that is usual."""
MISSED: Final = 3
"""Sweeps in a row whose absence is no delay of the log any more."""
WATCHDOG_WITHIN_S: Final = 600
"""As the alarm watchdog-missing has it (cloudformation/alarms.yml)."""
_RATE: Final = re.compile(r"rate\((\d+) (minute|hour|day)s?\)")
_UNITS_S: Final = {"minute": 60, "hour": 3600, "day": 86_400}


class Health(StrEnum):
    """The three colours, and not knowing."""

    ALIVE = "alive"
    TROUBLED = "alive, with trouble"
    DEAD = "not alive"
    UNKNOWN = "not known"


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """The answer, and what it rests on."""

    health: Health
    because: tuple[str, ...]
    """Sentences without a full stop; never none."""

    @property
    def said(self) -> str:
        """One line."""
        return f"{self.health}: {'; '.join(self.because)}"

    @property
    def is_alive(self) -> bool:
        """Whether the sweep is known to look; what troubles it beside that does not count."""
        return self.health in {Health.ALIVE, Health.TROUBLED}


def rate_s(expression: str) -> int | None:
    """Seconds of the stack's `rate(2 minutes)`; None for anything else."""
    match = _RATE.fullmatch(expression)
    return int(match[1]) * _UNITS_S[match[2]] if match else None


def verdict(looks: Looks, *, now_s: int, sweep_rate_s: int | None, stuck: Iterable[str]) -> Verdict:
    """Judge by the sweep: it comes whatever the cluster does. The rest is trouble at most."""
    sweep = looks.by_trigger["sweep"]
    due_s = MISSED * (sweep_rate_s or DEFAULT_RATE_S)
    if sweep.unknown:
        return Verdict(health=Health.UNKNOWN, because=(sweep.unknown,))
    if sweep.at_s is None:
        return Verdict(health=Health.DEAD, because=(f"the sweep has not looked for {say_duration(LONGEST_S)}",))
    age_s = now_s - sweep.at_s
    if sweep.failed:
        why = " ".join(str(sweep.line.get("message", "")).split())
        return Verdict(health=Health.DEAD, because=(f"the last sweep failed {say_duration(age_s)} ago: {why}",))
    rate = f"one is due every {say_duration(sweep_rate_s)}" if sweep_rate_s else "how often one is due is not known"
    if age_s > due_s:
        return Verdict(health=Health.DEAD, because=(f"the last sweep looked {say_duration(age_s)} ago, and {rate}",))
    troubles = (*_of_watchdog(looks, now_s), *_of_decision(looks.newest or {}), *(f"{one} is stuck" for one in stuck))
    looked = f"the sweep looked {say_duration(age_s)} ago"
    return Verdict(health=Health.TROUBLED if troubles else Health.ALIVE, because=(*troubles, looked))


def _of_watchdog(looks: Looks, now_s: int) -> Iterable[str]:
    seen = looks.watchdog
    if seen.unknown:
        yield f"whether alerts arrive is not known ({seen.unknown})"
    elif seen.at_s is None:
        yield f"no Watchdog alert came for {say_duration(LONGEST_S)}: alerts do not reach it"
    elif now_s - seen.at_s > WATCHDOG_WITHIN_S:
        yield f"the last Watchdog alert came {say_duration(now_s - seen.at_s)} ago: alerts do not reach it"
    alert = looks.by_trigger["alert"]
    if alert.failed and alert.at_s is not None:
        yield f"the last alert's look failed {say_duration(now_s - alert.at_s)} ago"


def _of_decision(line: dict[str, Any]) -> Iterable[str]:
    """What the newest decision itself complains about."""
    if line.get("mode") == "paused":
        yield "it is paused: nothing is looked at"
    elif line.get("mode") == "observe":
        yield "it only observes: nothing is done"
    if line.get("metrics_status") in {"partial", "unavailable"}:
        problem = next(iter(line.get("metrics_problems") or ()), "")
        yield f"metrics are {line['metrics_status']}{f' ({problem})' if problem else ''}"
    if line.get("action") == "refused":
        yield f"it refuses ({line.get('reason')}): {str(line.get('message', '')).rstrip('.')}"
    if line.get("failures"):
        yield f"in the last look {str(line['failures'][0]).rstrip('.')}"
    if line.get("policy_problem"):
        yield f"the policy: {str(line['policy_problem']).rstrip('.')}"
