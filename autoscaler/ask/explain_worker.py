"""Why one worker stays, or goes: every rule that keeps it and until when, and whether its pods fit elsewhere."""

import msgspec

from autoscaler.ask.explain_fleet import removal_holds, settled_state
from autoscaler.ask.lines import Line, of
from autoscaler.decide.demand.custom import kept_by_signals
from autoscaler.decide.demand.keeping import Keeping, most_kept
from autoscaler.decide.fleet import Standing, Worker
from autoscaler.decide.removal.holds import all_that_keeps
from autoscaler.decide.removal.shrink import bonds_of, turns
from autoscaler.decide.steps import Course
from autoscaler.model import Asks, Snapshot, Why


class WorkerAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What holds one worker."""

    node: str
    instance_id: str
    standing: str
    facts: str
    """Type, market, zone and age, as far as they are known."""
    under_way: str
    """The operation that is about it; empty for none."""
    own: tuple[Line, ...]
    """What keeps it whatever the demand."""
    demand: tuple[Line, ...]
    """What demand has against its removal, were it the first to go."""
    everybody: tuple[Line, ...]
    """What holds every removal back now."""
    turn: int | None
    """Its place among those that nothing of their own keeps, from 1; None where it is not among them."""
    before: tuple[str, ...]
    """Who is judged before it, in order."""
    leaves: bool
    """Whether this look would drain it."""
    unknown: str
    """What could not be seen, so that more may keep it; empty for none."""


def find_worker(course: Course, name: str) -> Worker | None:
    """By the name of its Node or the id of its instance."""
    return next((w for w in course.judged.workers if name in (w.title, w.key)), None)


def missing_of(name: str, snapshot: Snapshot, course: Course) -> Asks:
    """What has to be seen before all of it can be told."""
    worker = find_worker(course, name)
    if worker is None or worker.standing is not Standing.READY or not snapshot.cluster_known:
        return Asks()
    return _bonds(course, worker)[0]


def explain_worker(course: Course, worker: Worker) -> WorkerAnswer:
    """Ask every rule of the judgement about this worker."""
    look = course.look
    ready = worker.standing is Standing.READY
    judged = ready and look.snapshot.cluster_known and look.snapshot.rooms_known
    asks, bonds = _bonds(course, worker) if judged else (Asks(), [])
    titles = [one.title for one in _order(course)] if judged else []
    place = titles.index(worker.title) if worker.title in titles else None
    own = all_that_keeps(worker, settled_state(course), look.policy, look.now_s) if ready else ()
    unseen = "its pods, or what the scheduler asks of them, could not be seen" if asks else ""
    return WorkerAnswer(
        node=worker.node.name if worker.node is not None else "",
        instance_id=worker.instance.instance_id if worker.instance is not None else "",
        standing=worker.standing.value,
        facts=_facts(worker, look.now_s),
        under_way=_under_way(worker, look.now_s),
        own=tuple(of(why) for why in own),
        demand=tuple(of(bond) for bond in bonds),
        everybody=removal_holds(course),
        turn=None if place is None else place + 1,
        before=tuple(titles[: place or 0]),
        leaves=any(one.key == worker.key for one in course.shrink.candidates),
        unknown=unseen if judged or not ready else "what is free on the Nodes could not be seen",
    )


def _bonds(course: Course, worker: Worker) -> tuple[Asks, list[Why]]:
    look = course.look
    return bonds_of(
        worker,
        look.snapshot,
        course.judged,
        settled_state(course),
        look.policy,
        now_s=look.now_s,
        limits=look.limits,
        distrusted=course.pods.distrusted,
        kept=_kept(course),
    )


def _order(course: Course) -> list[Worker]:
    look = course.look
    return turns(
        look.snapshot,
        course.judged,
        settled_state(course),
        look.policy,
        now_s=look.now_s,
        limits=look.limits,
        kept=_kept(course),
    )


def _kept(course: Course) -> Keeping:
    look = course.look
    return most_kept(kept_by_signals(look.snapshot, course.judged, look.policy), course.forecast.keeping)


def _facts(worker: Worker, now_s: int) -> str:
    instance = worker.instance
    if instance is None:
        return "no instance of this cluster's tag"
    age_s = max(0, now_s - instance.launched_at_s)
    return f"{instance.instance_type}, {instance.market}, {instance.zone}, {age_s} s old"


def _under_way(worker: Worker, now_s: int) -> str:
    removal, launch = worker.removal, worker.launch
    if removal is not None:
        age_s = max(0, now_s - removal.phase_since_s)
        return f"removal {removal.operation_id} for {removal.reason}: {removal.phase} for {age_s} s"
    if launch is not None:
        return f"launch {launch.operation_id} for {launch.reason}: {max(0, now_s - launch.created_at_s)} s old"
    return ""
