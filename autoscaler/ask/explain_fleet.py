"""Why a look would grow, shrink, or do nothing: every signal with its verdict, every limit, all that holds removals."""

from collections.abc import Iterator

import msgspec

from autoscaler.ask.lines import Line, line, of, row
from autoscaler.decide.removal.holds import all_holds
from autoscaler.decide.steps import Course
from autoscaler.decide.words import count
from autoscaler.model import Blocked, Signal, State, Why
from autoscaler.policy import Policy

_RATIOS = frozenset({"cpu_utilisation", "memory_utilisation"})
_TOLD = frozenset({"window_unknown", "unseen", "no_candidate", "replacing", "cooling_down"})
"""Reasons of a shrink that came as far as looking at workers."""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """A signal, and what follows from it."""

    name: str
    value: float | None
    threshold: float | None
    more: int
    """Workers that it asks for beyond what there is and comes; 0 for none."""
    line: Line


def verdicts(course: Course, policy: Policy) -> tuple[Verdict, ...]:
    """Every signal of the look."""
    coming = course.judged.ready + course.judged.joining
    found = []
    for signal in course.grow.signals:
        more = max(0, (signal.wants or 0) - coming)
        custom = signal.name if any(one.name == signal.name for one in policy.signals) else ""
        says = f"{_measured(signal, course, policy)}; asks for {count(more, 'more worker') if more else 'nothing'}"
        told = line(signal.name, says, code=signal.name)
        if custom:
            told = Line(about=custom, says=says, fields=(f"signals[{custom}]",))
        found.append(Verdict(name=signal.name, value=signal.value, threshold=signal.threshold, more=more, line=told))
    return tuple(found)


def growth_limits(course: Course, reason: str, message: str) -> tuple[Line, ...]:
    """What cuts a growth short, or refuses it. `reason`, `message`: the decision's own, where it is refused."""
    found: list[Line] = []
    if course.grow.limit:
        found.append(line(course.grow.limit, message.rstrip("."), code=course.grow.limit))
    elif course.grow.growth is not None and reason != course.grow.growth.reason:
        found.append(line(reason, message.rstrip("."), code=reason))
    return tuple(found)


def removal_holds(course: Course) -> tuple[Line, ...]:
    """All that holds removals by choice back, whoever it would be; where nothing does, what a shrink came to."""
    if course.shrink.candidates:
        names = ", ".join(worker.title for worker in course.shrink.candidates)
        return (Line(about=course.shrink.reason, says=f"nothing: {names} would be drained", fields=("scale_down",)),)
    held = [of(hold) for hold in _holds_of(course)]
    if held or not course.look.snapshot.cluster_known:
        return tuple(held)
    code, says = course.shrink.reason, f"nothing holds all of them; {course.shrink.message}"
    if code == "no_candidate":
        return (Line(about=code, says=says, fields=("scale_down",)),)
    if code in _TOLD:
        return (line(code, says, code=code),)
    return (Line(about="busy", says="something else comes first in this look", instead="ask again in a minute"),)


def settled_state(course: Course) -> State:
    """The state without the removals that this look begins: by them its own choice would hold itself back."""
    return course.before if course.shrink.candidates or course.repaired else course.state


def _holds_of(course: Course) -> Iterator[Why]:
    look = course.look
    return all_holds(
        look.snapshot,
        course.judged,
        settled_state(course),
        look.policy,
        waiting_pods=course.pods.waiting,
        now_s=look.now_s,
        limits=look.limits,
    )


def kept_workers(course: Course) -> tuple[Line, ...]:
    """Workers that a shrink passed over, each with its first reason."""
    return tuple(row(one) for one in course.shrink.blocked)


def kept_pods(course: Course) -> tuple[Line, ...]:
    """Pods that nothing is launched for, each with its reason."""
    return tuple(row(one) for one in dict.fromkeys(course.pods.blocked))


def others(course: Course, blocked: tuple[Blocked, ...]) -> tuple[Line, ...]:
    """Everything else that the decision passed over: signals, replacements, repairs, zones."""
    told = {*course.shrink.blocked, *course.pods.blocked}
    return tuple(row(one) for one in dict.fromkeys(blocked) if one not in told)


def _measured(signal: Signal, course: Course, policy: Policy) -> str:
    if signal.name == "unschedulable_pods":
        waiting = int(signal.value or 0)
        return f"{waiting or 'no'} {'pod waits' if waiting <= 1 else 'pods wait'} that a worker could help"
    if signal.name in _RATIOS:
        value = "unknown" if signal.value is None else f"{signal.value:.0%}"
        return f"{value}; above {signal.threshold or 0:.0%} for {policy.scale_up.window_s} s counts"
    if signal.name == "minimum":
        there, least = signal.value or 0, signal.threshold or 0
        return f"{there:.0f} workers are there or come; {course.look.limits.min_by} is {least:.0f}"
    value = "unknown" if signal.value is None else f"{signal.value:g}"
    return f"{value}; threshold {'none' if signal.threshold is None else f'{signal.threshold:g}'}"
