"""Of what is news, what people are told: by severity and reason, and so many an hour. `notify` in the policy.

The log and the history have every decision whatever this says. Pure: the memory of what was told stands in the state,
and is saved with what a look saves anyway, so that who is killed in between tells one message more, never less.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

import msgspec

from autoscaler.model import Action, MetricsStatus, Notified

Severity = Literal["info", "warning", "critical"]
Reason = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
Reasons = Annotated[tuple[Reason, ...], msgspec.Meta(max_length=50)]

ORDER: Final[tuple[Severity, ...]] = ("info", "warning", "critical")
TRIED_ANEW: Final = frozenset({"policy_refused", "signal_lost"})
"""Of the conditions that only a person mends, those without which scaling goes on."""
HOUR_S: Final = 3600


class Notify(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What of the news people are told."""

    least: Severity = "info"
    """The least severity that is told."""
    only: Reasons = ()
    """Of these reasons only; empty: of every reason."""
    never: Reasons = ()
    """Never of these reasons."""
    most_an_hour: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 20
    """More are counted and told with the first of the next hour. Critical ones always come through."""

    def __post_init__(self) -> None:
        both = sorted(set(self.only) & set(self.never))
        if both:
            raise ValueError(
                f"notify.only and notify.never both name {' and '.join(both)}: a reason is told or it is not, so take "
                "it out of one of them"
            )


class Telling(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a piece of news is told, and what is remembered of it."""

    told: bool
    severity: Severity
    withheld: int
    """Messages since the last one that were too many for their hour; told with this one."""
    notified: Notified | None


def severity_of(document: Mapping[str, Any]) -> Severity:
    """How much a decision document asks of people.

    `critical`: it goes no further without them (autoscaler/conditions.py). `warning`: something failed or is held back,
    and is tried again.
    """
    holding = set(document.get("conditions") or ())
    if holding - TRIED_ANEW:
        return "critical"
    blind = document.get("metrics_status") in {MetricsStatus.PARTIAL, MetricsStatus.UNAVAILABLE}
    if blind or holding or document.get("action") == Action.HELD_BACK or document.get("failures"):
        return "warning"
    return "info"


def telling(document: Mapping[str, Any], rules: Notify, notified: Notified | None, now_s: int) -> Telling:
    """Whether this piece of news is told now, and the memory to save with it."""
    severity, reason = severity_of(document), document.get("reason")
    wanted = (
        ORDER.index(severity) >= ORDER.index(rules.least)
        and (not rules.only or reason in rules.only)
        and reason not in rules.never
    )
    if not wanted:
        return Telling(told=False, severity=severity, withheld=0, notified=notified)
    withheld = notified.withheld if notified is not None else 0
    fresh = notified is None or not 0 <= now_s - notified.hour_began_s < HOUR_S
    began_s, told = (now_s, 0) if fresh or notified is None else (notified.hour_began_s, notified.told)
    if told >= rules.most_an_hour and severity != "critical":
        memory = Notified(hour_began_s=began_s, told=told, withheld=withheld + 1)
        return Telling(told=False, severity=severity, withheld=0, notified=memory)
    memory = Notified(hour_began_s=began_s, told=told + 1)
    return Telling(told=True, severity=severity, withheld=withheld, notified=memory)
