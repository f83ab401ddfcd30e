"""The steps of a judgement, and what each leaves for the next. Their order stands in decision.py."""

import msgspec

from autoscaler.decide.demand.growth import GrowPlan, plan_blind_growth, plan_growth
from autoscaler.decide.demand.headroom import NO_HEADROOM, HeadroomDemand, headroom_demand
from autoscaler.decide.demand.pods import NO_DEMAND, PodDemand, pod_demand
from autoscaler.decide.demand.pool_minima import BELOW_POOL_MIN
from autoscaler.decide.fleet import FleetView, view_fleet
from autoscaler.decide.looking import Look, new_removal
from autoscaler.decide.progress.launch import advance_launch
from autoscaler.decide.progress.removal import advance_removal
from autoscaler.decide.removal.elsewhere import movable_pods
from autoscaler.decide.removal.reclaim import reclaim_noticed
from autoscaler.decide.removal.repair import repair_unhealthy, trust_launches_again
from autoscaler.decide.removal.retire import Retirement, plan_retirement
from autoscaler.decide.removal.shrink import ShrinkPlan, plan_shrink
from autoscaler.decide.scheduling.picture import take_backable
from autoscaler.decide.words import count
from autoscaler.model import Asks, Blocked, Growth, MetricsStatus, RemovalPhase, State
from autoscaler.state.moved import moved_in_vain, owners_moved
from autoscaler.state.notices import mark_handled, mark_replaced
from autoscaler.state.transitions import MAX_OPEN_OPERATIONS, open_operations, open_removal


class Course:
    """One judgement as it goes: the state so far, and what each step found. Only steps change it."""

    def __init__(self, look: Look, state: State) -> None:
        self.look = look
        self.before = state
        self.state = state
        self.reclaimed: tuple[str, ...] = ()
        """Keys of the workers that EC2 takes away now."""
        self.pods: PodDemand = NO_DEMAND
        self.headroom: HeadroomDemand = NO_HEADROOM
        self.wanted_back: dict[str, str] = {}
        """Operation ids of removals to undo, with the reason."""
        self.judged = self.fleet
        """The workers that growth and shrink were judged on."""
        self.unhealthy: tuple[Blocked, ...] = ()
        self.repaired = False
        """Whether a removal began that is no shrink."""
        self.grow = GrowPlan(signals=(), wanted=0, growth=None)
        self.retirement = Retirement()
        self.shrink = ShrinkPlan(candidates=(), reason="busy", message="another step comes first", blocked=())

    @property
    def fleet(self) -> FleetView:
        """The workers by the state so far."""
        return view_fleet(self.look.snapshot, self.state)

    @property
    def were_joining(self) -> frozenset[str]:
        """Instance ids of workers that no look before this one saw Ready."""
        return frozenset(i for launch in self.before.launches for i in launch.instance_ids)

    @property
    def another_comes_first(self) -> bool:
        """Whether something is done, or held back, already: one of repair, growth and shrink begins in one look."""
        grows = self.grow.growth is not None or bool(self.grow.limit)
        return grows or self.repaired or bool(self.wanted_back)


def advance_launches(course: Course) -> None:
    """Which launched workers have come, and which will not."""
    for launch in course.before.launches:
        course.state = advance_launch(course.look, course.state, launch)


def reclaim(course: Course) -> None:
    """What EC2 takes away whatever we do is drained while there is time."""
    course.state, course.reclaimed = reclaim_noticed(course.look, course.state, course.fleet)


def weigh_pods(course: Course) -> None:
    """What pods ask for that wait, or will wait once their machine is gone."""
    look, fleet = course.look, course.fleet
    if not look.snapshot.cluster_known:
        return
    displaced = [pod for worker in fleet.workers if worker.key in course.reclaimed for pod in movable_pods(worker)]
    course.pods = pod_demand(
        look.snapshot, fleet, course.state, look.policy, displaced=displaced, just_joined=course.were_joining
    )


def weigh_headroom(course: Course) -> None:
    """What is to stay free beside those pods."""
    look = course.look
    if look.snapshot.cluster_known:
        course.headroom = headroom_demand(
            look.snapshot,
            course.fleet,
            course.state,
            look.policy,
            look.limits.headroom,
            pods=course.pods,
            just_joined=course.were_joining,
        )


def take_back(course: Course) -> None:
    """Removals to undo before anything is launched: for pods that fit there, else the newest first."""
    look, fleet = course.look, course.fleet
    back = dict.fromkeys(course.pods.take_back, f"{count(course.pods.waiting, 'pod')} could run there")
    if look.snapshot.cluster_known:
        plan = plan_growth(
            look.snapshot, fleet, course.state, look.policy, pods=NO_DEMAND, headroom=course.headroom, replacing=0
        )
        # Where a pool lacks its own min, a worker of another pool is no help.
        for worker in take_backable(fleet) if plan.reason != BELOW_POOL_MIN else ():
            if worker.removal is not None and plan.wanted > fleet.ready + fleet.joining + len(back):
                back.setdefault(worker.removal.operation_id, "more workers are wanted")
    course.wanted_back = back


def advance_removals(course: Course) -> None:
    """How far each removal has come; those that are wanted back turn round where they still may."""
    for removal in course.before.removals:
        current = next((r for r in course.state.removals if r.operation_id == removal.operation_id), None)
        if current is not None:
            course.state = advance_removal(course.look, course.state, current, wanted_back=course.wanted_back)


def repair(course: Course) -> None:
    """Workers that are NotReady, stopped, without a Node, or have left one behind."""
    known = {removal.operation_id for removal in course.before.removals}
    course.state, course.unhealthy = repair_unhealthy(course.look, course.state, course.fleet)
    course.state = trust_launches_again(course.look, course.state, course.fleet)
    course.repaired = any(removal.operation_id not in known for removal in course.state.removals)


def grow(course: Course) -> None:
    """How many workers are wanted, by the largest demand, and how many of them may be launched."""
    look, state = course.look, course.state
    fleet = course.judged = course.fleet
    if course.wanted_back:
        weigh_headroom(course)  # what was taken back is free again
    if look.snapshot.metrics_status is MetricsStatus.UNAVAILABLE:
        course.grow = plan_blind_growth(look.snapshot, fleet, state, look.policy)
    elif not look.snapshot.cluster_known:
        course.grow = GrowPlan(signals=(), wanted=fleet.ready + fleet.joining, growth=None)
    else:
        replacing = len(course.reclaimed)
        course.grow = plan_growth(
            look.snapshot,
            fleet,
            state,
            look.policy,
            pods=course.pods,
            headroom=course.headroom,
            replacing=replacing,
        )
    if course.pods.take_back or (course.grow.growth is not None and course.pods.extra):
        course.state = moved_in_vain(course.state, course.pods.for_owners, look.now_s)
    if course.grow.growth is not None and course.grow.blind is not None:
        course.state = mark_handled(course.state, course.grow.blind.kind, course.grow.blind.subject)


def retire(course: Course) -> None:
    """The next retirement that is days away: a replacement where one is needed, then the removal."""
    look = course.look
    if course.another_comes_first or course.pods.waiting:
        return
    plan = course.retirement = plan_retirement(look, course.state, course.fleet)
    worker = plan.removes
    if plan.notice is not None and plan.launches:
        growth = Growth(workers=plan.launches, reason="retirement")
        course.grow = msgspec.structs.replace(course.grow, wanted=course.fleet.ready + 1, growth=growth)
        course.state = mark_replaced(course.state, plan.notice.kind, plan.notice.subject)
    elif worker is not None and worker.instance is not None and open_operations(course.state) < MAX_OPEN_OPERATIONS:
        removal = new_removal(look, worker.instance, worker.node, reason="retirement", phase=RemovalPhase.DRAINING)
        course.state = open_removal(course.state, removal, counts_as_scale_down=False)
        course.repaired = True
        look.events.append(f"{worker.title} will be retired by EC2: it is drained in time")


def shrink(course: Course) -> None:
    """Workers that nobody needs any more."""
    look, pods = course.look, course.pods
    if course.another_comes_first:
        return
    course.shrink = plan_shrink(
        look.snapshot,
        course.fleet,
        course.state,
        look.policy,
        waiting_pods=pods.waiting,
        distrusted=pods.distrusted,
        now_s=look.now_s,
        limits=look.limits,
    )
    for worker in course.shrink.candidates:
        if worker.instance is not None and open_operations(course.state) < MAX_OPEN_OPERATIONS:
            removal = new_removal(
                look, worker.instance, worker.node, reason=course.shrink.reason, phase=RemovalPhase.DRAINING
            )
            course.state = open_removal(course.state, removal, counts_as_scale_down=True)
            course.state = owners_moved(course.state, course.shrink.moves, look.now_s)


def asks(course: Course) -> Asks:
    """What has to be seen before all of this can be judged."""
    look, fleet = course.look, course.judged
    asked = Asks(instances=tuple(look.asks_instances))
    if not look.snapshot.cluster_known:
        return asked
    # Pods of what EC2 takes away need a place, and nobody has looked at them yet.
    leaving = [w for w in fleet.workers if w.key in course.reclaimed and w.node is not None]
    unseen = tuple(w.title for w in leaving if w.pods is None)
    rooms = look.asks_rooms or (bool(unseen) and not look.snapshot.rooms_known)
    asked |= course.headroom.asks
    return asked | course.pods.asks | course.retirement.asks | course.shrink.asks | Asks(pods_of=unseen, rooms=rooms)
