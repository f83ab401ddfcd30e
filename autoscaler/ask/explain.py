"""The question `explain`: why a look now would do what it would, in general, for one worker, or for one pod."""

from typing import Any

import msgspec

from autoscaler.ask import explain_pod, explain_worker
from autoscaler.ask.explain_fleet import growth_limits, kept_pods, kept_workers, others, removal_holds, verdicts
from autoscaler.ask.looking import NoAnswer, Seen, Service, look
from autoscaler.ask.next_decision import withheld
from autoscaler.decide.steps import Course
from autoscaler.model import Asks, Snapshot


class Arguments(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is asked about."""

    about: str = ""
    """A Node's name, an instance id, or `namespace/pod`; empty for the look as a whole."""


def answer(service: Service, arguments: Arguments) -> dict[str, Any]:
    """`decision` and `withheld` always; `worker` or `pod` where one is asked about, else signals and holds."""
    about = arguments.about

    def missing(snapshot: Snapshot, course: Course) -> Asks:
        if not about:
            return Asks()
        if "/" in about:
            return explain_pod.missing_of(about, snapshot, course)
        return explain_worker.missing_of(about, snapshot, course)

    seen = look(service, missing)
    told: dict[str, Any] = {
        "now_s": seen.now_s,
        "decision": seen.document(),
        "withheld": withheld(seen),
        "would_ask": list(seen.would_ask),
    }
    if not about:
        return told | _of_the_fleet(seen)
    _refuse_if_blind(seen, about)
    return told | (_of_a_pod(seen, about) if "/" in about else _of_a_worker(seen, about))


def _of_the_fleet(seen: Seen) -> dict[str, Any]:
    decision = seen.decision
    parts = {
        "signals": verdicts(seen.course, seen.policy),
        "limits": growth_limits(seen.course, decision.reason, decision.message),
        "removals": removal_holds(seen.course),
        "workers": kept_workers(seen.course),
        "pods": kept_pods(seen.course),
        "others": others(seen.course, decision.blocked),
    }
    return {name: msgspec.to_builtins(part) for name, part in parts.items()}


def _of_a_worker(seen: Seen, name: str) -> dict[str, Any]:
    worker = explain_worker.find_worker(seen.course, name)
    if worker is None:
        names = sorted(one.title for one in seen.course.judged.workers)
        raise NoAnswer(f"There is no worker {name}: {_some(names)}. A pod is asked for as NAMESPACE/POD.")
    return {"worker": msgspec.to_builtins(explain_worker.explain_worker(seen.course, worker))}


def _of_a_pod(seen: Seen, title: str) -> dict[str, Any]:
    pod = explain_pod.find_pod(seen.snapshot, title)
    if pod is None:
        workers = [w for w in seen.course.judged.workers if w.node is not None]
        looked = sum(1 for w in workers if w.node is not None and w.node.name in seen.snapshot.pods_of)
        everywhere = "" if looked == len(workers) else f" (looked at {looked} of {len(workers)} workers)"
        raise NoAnswer(f"No pod {title} waits for a node, and none runs on a worker{everywhere}: check both names.")
    return {"pod": msgspec.to_builtins(explain_pod.explain_pod(seen.course, pod))}


def _refuse_if_blind(seen: Seen, about: str) -> None:
    if not seen.snapshot.cluster_known:
        problem = seen.snapshot.metrics_problems[0] if seen.snapshot.metrics_problems else "the metrics are not whole"
        raise NoAnswer(f"Nothing can be told of {about} now: {problem}.".replace("..", "."))


def _some(names: list[str]) -> str:
    if not names:
        return "no worker is known at all"
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"the workers are {', '.join(names[:5])}{more}"
