"""The steps of a judgement, and what each leaves for the next. Their order stands in decision.py."""

import msgspec

from autoscaler.decide.demand.custom import kept_by_signals
from autoscaler.decide.demand.forecast import NO_FORECAST, ForecastDemand, forecast_demand
from autoscaler.decide.demand.growth import NO_PLACE, GrowPlan, plan_blind_growth, plan_growth
from autoscaler.decide.demand.headroom import NO_HEADROOM, HeadroomDemand, headroom_demand
from autoscaler.decide.demand.keeping import Keeping, most_kept
from autoscaler.decide.demand.pods import NO_DEMAND, PodDemand, pod_demand
from autoscaler.decide.demand.pool_minima import BELOW_POOL_MIN
from autoscaler.decide.fleet import FleetView, Standing, same_fleet, view_fleet
from autoscaler.decide.looking import RETURN_TO_SPOT, Look, new_removal
from autoscaler.decide.progress.launch import advance_launch
from autoscaler.decide.progress.removal import advance_removal
from autoscaler.decide.removal.cheaper import saves_no_more, saving
from autoscaler.decide.removal.elsewhere import movable_pods
from autoscaler.decide.removal.reclaim import reclaim_noticed
from autoscaler.decide.removal.repair import repair_unhealthy, trust_launches_again
from autoscaler.decide.removal.replace import ReplacePlan, begin, follow, waits_for
from autoscaler.decide.removal.retire import Retirement, plan_retirement
from autoscaler.decide.removal.rotation import due, in_vain
from autoscaler.decide.removal.shrink import ShrinkPlan, plan_shrink
from autoscaler.decide.removal.spot_return import ReturnPlan, plan_return
from autoscaler.decide.scheduling.picture import take_backable
from autoscaler.decide.words import count
from autoscaler.model import AsideSignal, Asks, Blocked, Growth, MetricsStatus, RemovalPhase, State
from autoscaler.state.moved import moved_in_vain, owners_moved
from autoscaler.state.notices import RETIREMENT, mark_handled, mark_replaced
from autoscaler.state.signals import set_aside, untold_failures
from autoscaler.state.transitions import MAX_OPEN_OPERATIONS, open_operations, open_removal


class Course:
    """One judgement as it goes: the state so far, and what each step found. Only steps change it."""

    def __init__(self, look: Look, state: State) -> None:
        self.look = look
        self.before = state
        self.state = state
        self._seen: tuple[State, FleetView] | None = None
        self.reclaimed: tuple[str, ...] = ()
        """Keys of the workers that EC2 takes away now."""
        self.pods: PodDemand = NO_DEMAND
        self.headroom: HeadroomDemand = NO_HEADROOM
        self.forecast: ForecastDemand = NO_FORECAST
        self.signals_aside: tuple[AsideSignal, ...] = state.signals_aside
        self.wanted_back: dict[str, str] = {}
        """Operation ids of removals to undo, with the reason."""
        self.judged = self.fleet
        """The workers that growth and shrink were judged on."""
        self.unhealthy: tuple[Blocked, ...] = ()
        self.repaired = False
        """Whether a removal began that is no shrink."""
        self.grow = GrowPlan(signals=(), wanted=0, growth=None)
        self.retirement = Retirement()
        self.replacing = ReplacePlan(state=state)
        """What the step that looked at replacements last came to."""
        self.spot_return = ReturnPlan(record=None)
        self.shrink = ShrinkPlan(candidates=(), reason="busy", message="another step comes first", blocked=())

    @property
    def fleet(self) -> FleetView:
        """The workers by the state so far."""
        if self._seen is None or not same_fleet(self._seen[0], self.state):
            self._seen = self.state, view_fleet(self.look.snapshot, self.state)
        return self._seen[1]

    @property
    def were_joining(self) -> frozenset[str]:
        """Instance ids of workers that no look before this one saw Ready."""
        return frozenset(i for launch in self.before.launches for i in launch.instance_ids)

    @property
    def another_comes_first(self) -> bool:
        """Whether something is done, or held back, already: one of repair, growth and shrink begins in one look.

        A pool's min for which there is no place holds up nobody: who leaves makes the place. Nor does any demand where
        more are there than max allows: who is too many goes whatever is wanted.
        """
        grow = self.grow
        too_many = self.fleet.existing > self.look.policy.workers.max
        without_place = grow.growth is None and (too_many or (grow.reason == BELOW_POOL_MIN and grow.limit in NO_PLACE))
        grows = grow.growth is not None or (bool(grow.limit) and not without_place)
        return grows or self.repaired or bool(self.wanted_back)

    @property
    def may_replace(self) -> bool:
        """Whether nothing else begins, and nobody is to be seen, or measured, first who may leave for nothing."""
        judged = not self.shrink.asks and not self.shrink.unmeasured and not self.retirement.asks
        known = self.look.snapshot.cluster_known and judged
        returning = self.state.spot_return is not None and bool(self.state.spot_return.instance_id)
        busy = self.another_comes_first or bool(self.shrink.candidates) or self.state.replacement is not None
        return known and not (busy or returning)

    def replaces(self, plan: ReplacePlan) -> None:
        """Carry out what follows for a replacement."""
        look, worker, before = self.look, plan.removes, self.replacing
        self.replacing = msgspec.structs.replace(
            plan, blocked=(*before.blocked, *plan.blocked), asks=before.asks | plan.asks
        )
        if plan.launches:
            growth = Growth(workers=plan.launches, reason=plan.reason)
            wanted = self.fleet.ready + growth.count
            self.grow = msgspec.structs.replace(self.grow, wanted=wanted, growth=growth, because=plan.why)
            self.state = plan.state
        elif worker is None:
            self.state = plan.state
        elif worker.instance is not None and open_operations(self.state) < MAX_OPEN_OPERATIONS:
            removal = new_removal(look, worker.instance, worker.node, reason=plan.reason, phase=RemovalPhase.DRAINING)
            self.state = open_removal(plan.state, removal, counts_as_scale_down=True)
            self.state = owners_moved(self.state, plan.moves, look.now_s)
            self.repaired = True
            look.done.append(f"{worker.title} is drained, since {plan.why}, and what replaces it is Ready")


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


def weigh_signals(course: Course) -> None:
    """Which custom signals are set aside; what the others ask for stands beside all other demands."""
    look = course.look
    course.signals_aside = set_aside(course.before, look.snapshot, look.policy)
    for one in untold_failures(course.before, course.signals_aside):
        look.done.append(f"the signal {one.name} is set aside: {one.problem}")


def weigh_forecast(course: Course) -> None:
    """What the same time of earlier days asks for, and how right that was lately."""
    look = course.look
    course.forecast = forecast_demand(look.snapshot, course.fleet, course.before, look.policy, now_s=look.now_s)


def take_back(course: Course) -> None:
    """Removals to undo before anything is launched: for pods that fit there, else the newest first."""
    look, fleet = course.look, course.fleet
    back = dict.fromkeys(course.pods.take_back, f"{count(course.pods.waiting, 'pod')} could run there")
    if look.snapshot.cluster_known:
        plan = plan_growth(
            look.snapshot,
            fleet,
            course.state,
            look.policy,
            pods=NO_DEMAND,
            headroom=course.headroom,
            replacing=0,
            foreseen=course.forecast.signals,
        )
        # Whom max has no place for would be removed again at the next look, for ever.
        wanted = min(plan.wanted, look.policy.workers.max - len(fleet.having(Standing.UNHEALTHY)))
        # Where a pool lacks its own min, a worker of another pool is no help. What EC2 retires goes all the same.
        for worker in take_backable(fleet) if plan.reason != BELOW_POOL_MIN else ():
            if worker.removal is None or worker.removal.reason == RETIREMENT:
                continue
            if wanted > fleet.ready + fleet.joining + len(back):
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
            foreseen=course.forecast.signals,
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
    plan = course.retirement = plan_retirement(look, course.state, course.fleet, kept=_kept(course))
    worker = plan.removes
    if plan.notice is not None and plan.launches:
        growth = Growth(workers=plan.launches, reason=RETIREMENT)
        course.grow = msgspec.structs.replace(course.grow, wanted=course.fleet.ready + 1, growth=growth)
        course.state = mark_replaced(course.state, plan.notice.kind, plan.notice.subject)
    elif worker is not None and worker.instance is not None and open_operations(course.state) < MAX_OPEN_OPERATIONS:
        removal = new_removal(look, worker.instance, worker.node, reason=RETIREMENT, phase=RemovalPhase.DRAINING)
        course.state = open_removal(course.state, removal, counts_as_scale_down=False)
        course.repaired = True
        look.done.append(f"{worker.title} will be retired by EC2: it is drained in time")


def replace(course: Course) -> None:
    """How far the replacement has come that is under way; while one is, nobody else leaves by choice."""
    look = course.look
    if course.another_comes_first or course.state.replacement is None:
        return
    plan = follow(
        look,
        course.state,
        course.fleet,
        waiting_pods=course.pods.waiting,
        in_vain=lambda replacement, new: (
            in_vain(look, replacement, new) or saves_no_more(look, course.fleet, replacement, new)
        ),
    )
    course.replaces(plan)


def shrink(course: Course) -> None:
    """Workers that nobody needs any more."""
    look, pods = course.look, course.pods
    if course.another_comes_first:
        return
    if course.state.replacement is not None:
        course.shrink = msgspec.structs.replace(course.shrink, reason="replacing", message=_replaces(course))
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
        kept=_kept(course),
    )
    for worker in course.shrink.candidates:
        if worker.instance is not None and open_operations(course.state) < MAX_OPEN_OPERATIONS:
            removal = new_removal(
                look, worker.instance, worker.node, reason=course.shrink.reason, phase=RemovalPhase.DRAINING
            )
            course.state = open_removal(course.state, removal, counts_as_scale_down=True)
            course.state = owners_moved(course.state, course.shrink.moves, look.now_s)


def rotate(course: Course) -> None:
    """The oldest worker that is too old, or is not what a launch would give now."""
    if not course.may_replace:
        return
    look, state = course.look, course.state
    old = due(look, state, course.fleet)
    course.replaces(begin(look, state, course.fleet, old.wishes, waiting_pods=course.pods.waiting, unseen=old.asks))


def cheapen(course: Course) -> None:
    """A dearer worker that cheaper ones can stand in for."""
    look, state, waiting = course.look, course.state, course.pods.waiting
    if not course.may_replace or course.replacing.asks:
        return
    if waits_for(look, state, course.fleet, waiting_pods=waiting) is not None:
        return  # no row each look for what is no more than a wish
    found = saving(look, state, course.fleet)
    course.replaces(begin(look, state, course.fleet, found.wishes, waiting_pods=waiting, unseen=found.asks))


def return_to_spot(course: Course) -> None:
    """An on-demand worker that a Spot pool need not have: a Spot worker first, then its removal."""
    look, shrink = course.look, course.shrink
    if course.another_comes_first or course.pods.waiting or shrink.candidates or shrink.asks or shrink.unmeasured:
        return
    if course.state.replacement is not None or course.replacing.asks:
        return
    plan = course.spot_return = plan_return(look, course.state, course.fleet)
    worker = plan.removes
    if worker is not None and open_operations(course.state) >= MAX_OPEN_OPERATIONS:
        return
    course.state = msgspec.structs.replace(course.state, spot_return=plan.record)
    look.done += [plan.event] if plan.event else []
    if plan.launches:
        growth = Growth(workers=plan.launches, reason=RETURN_TO_SPOT, may_fall_back=False)
        course.grow = msgspec.structs.replace(course.grow, wanted=course.fleet.ready + 1, growth=growth)
    elif worker is not None and worker.instance is not None:
        removal = new_removal(look, worker.instance, worker.node, reason=RETURN_TO_SPOT, phase=RemovalPhase.DRAINING)
        course.state = open_removal(course.state, removal, counts_as_scale_down=False)
        course.repaired = True


def _kept(course: Course) -> Keeping:
    """How many stay although neither pods nor use ask for them."""
    look = course.look
    return most_kept(kept_by_signals(look.snapshot, course.fleet, look.policy), course.forecast.keeping)


def _replaces(course: Course) -> str:
    replacement = course.state.replacement
    return "" if replacement is None else f"{replacement.instance_id} is being replaced, since {replacement.why}"


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
    unasked = bool(look.policy.signals) and look.snapshot.signals is None
    asked |= course.headroom.asks | Asks(signals=unasked, history=course.forecast.asks)
    removing = course.retirement.asks | course.replacing.asks | course.shrink.asks | course.spot_return.asks
    return asked | course.pods.asks | removing | Asks(pods_of=unseen, rooms=rooms)
