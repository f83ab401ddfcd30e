"""The question `removal`: whether the pods of a worker would fit elsewhere, and what holds its removal."""

from typing import Any

import msgspec

from autoscaler.ask.explain_worker import WorkerAnswer, explain_worker, find_worker
from autoscaler.ask.explain_worker import missing_of as rules_missing_of
from autoscaler.ask.looking import NoAnswer, Seen, Service, look
from autoscaler.ask.next_decision import withheld
from autoscaler.decide.capacity.pools import is_open
from autoscaler.decide.fleet import Standing, Worker
from autoscaler.decide.removal.elsewhere import Elsewhere, movable_pods
from autoscaler.decide.scheduling.picture import Picture
from autoscaler.decide.scheduling.placing import Trial
from autoscaler.decide.steps import Course
from autoscaler.model import Asks, Pod, Snapshot
from autoscaler.model.rules import PodRules


class Arguments(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which worker."""

    node: str
    """Its Node's name, or its instance id."""


class Move(msgspec.Struct, frozen=True, kw_only=True):
    """Where a pod would go, in one of the ways that the scheduler may choose."""

    pod: str
    to: str
    """Empty where it finds no place in this way."""


def answer(service: Service, arguments: Arguments) -> dict[str, Any]:
    """`fits`: whether its pods fit elsewhere in every order that is tried; `moves`: one such way."""
    name = arguments.node

    def missing(snapshot: Snapshot, course: Course) -> Asks:
        asks = rules_missing_of(name, snapshot, course)
        worker = find_worker(course, name)
        if asks or worker is None or worker.node is None or worker.pods is not None or not snapshot.rooms_known:
            return asks
        return Asks(pods_of=(worker.title,))

    seen = look(service, missing)
    worker = _found(seen, name)
    course = seen.course
    places = [w for w in course.judged.having(Standing.READY) if is_open(w, course.look.policy) and w.key != worker.key]
    elsewhere = Elsewhere(seen.snapshot, course.judged, seen.state, course.look.policy, now_s=seen.now_s)
    why_not = elsewhere.cannot_lose(worker, (), places)
    told = explain_worker(course, worker)
    return {
        "now_s": seen.now_s,
        "withheld": withheld(seen),
        "would_ask": list(seen.would_ask),
        "fits": why_not is None,
        "why_not": "" if why_not is None else str(why_not),
        "moves": msgspec.to_builtins(_one_way(seen, worker, places)),
        "held": _held(told),
        "worker": msgspec.to_builtins(told),
    }


def _found(seen: Seen, name: str) -> Worker:
    worker = find_worker(seen.course, name)
    if not seen.snapshot.cluster_known:
        problem = seen.snapshot.metrics_problems[0] if seen.snapshot.metrics_problems else "the metrics are not whole"
        raise NoAnswer(f"No removal can be judged now: {problem.rstrip('.')}.")
    if worker is None:
        names = ", ".join(sorted(one.title for one in seen.course.judged.workers)[:5])
        raise NoAnswer(f"There is no worker {name}; there are {names or 'none at all'}.")
    if worker.standing is not Standing.READY:
        raise NoAnswer(f"{worker.title} is {worker.standing}: only of a Ready worker a removal can be thought through.")
    if worker.pods is None:
        raise NoAnswer(f"The pods of {worker.title} could not be seen just now: ask again.")
    return worker


def _held(told: WorkerAnswer) -> bool:
    """Whether anything stands against it now."""
    return bool(told.own or told.demand) or not told.leaves


def _one_way(seen: Seen, worker: Worker, places: list[Worker]) -> list[Move]:
    """The largest pods first, each on the first worker that takes it."""
    course = seen.course
    at_s = seen.snapshot.metrics_at_s or seen.snapshot.taken_at_s
    picture = Picture(seen.snapshot, course.judged, seen.state, course.look.policy, now_s=at_s)
    pods = [(pod, picture.book.of(pod)) for pod in movable_pods(worker)]
    moves: list[Move] = []
    with picture.without({worker.title}):
        trial = Trial(picture.cluster)
        names = sorted(place.title for place in places if place.title in picture.cluster.nodes)
        for pod, rules in sorted(pods, key=_largest_first):
            to = next((name for name in names if trial.fits(rules, picture.cluster.nodes[name])), "")
            if to:
                trial.put(rules, picture.cluster.nodes[to])
            moves.append(Move(pod=pod.title, to=to))
        trial.undo()
    return moves


def _largest_first(one: tuple[Pod, PodRules]) -> tuple[int, int, str]:
    pod, _ = one
    return -pod.requests.cpu_millicores, -pod.requests.memory_bytes, pod.title
