"""Bugs of launches and of who is nominated to go."""

import itertools
from collections.abc import Callable
from typing import Any, Final

import msgspec

import autoscaler.act.perform
import autoscaler.decide.capacity.cost
import autoscaler.decide.demand.growth
import autoscaler.decide.fleet
import autoscaler.decide.progress.launch
import autoscaler.decide.progress.removal
import autoscaler.decide.removal.repair
import autoscaler.decide.removal.shrink
import autoscaler.decide.scheduling.picture
import autoscaler.decide.steps
import autoscaler.state.memory
from autoscaler.model import State
from autoscaler.ports import PortError
from tests.soak.mutants.put import Mutant, put

replace = msgspec.structs.replace


def _with_policy(name: str, change: Callable[[Any], Any]) -> None:
    plan = getattr(autoscaler.decide.steps, name)

    def changed(snapshot: Any, fleet: Any, state: Any, policy: Any, **more: Any) -> Any:
        return plan(snapshot, fleet, state, change(policy), **more)

    put(autoscaler.decide.steps, name, changed)


def unlisted_workers_forgotten() -> None:
    """In the dark only what EC2 lists counts against max."""
    plan = autoscaler.decide.demand.growth.plan_blind_growth

    def forgetful(snapshot: Any, fleet: Any, state: State, policy: Any) -> Any:
        return plan(snapshot, fleet, replace(state, unlisted_workers=0), policy)

    put(autoscaler.decide.steps, "plan_blind_growth", forgetful)


def no_adoption_by_tag() -> None:
    """Instances are known by EC2's answer only."""
    put(autoscaler.decide.progress.launch, "_adopt", lambda _look, launch: launch)


def new_token_on_each_send() -> None:
    """A launch that is sent again is a new one to EC2."""
    launch = autoscaler.act.perform.Actor._launch
    numbers = itertools.count()

    def fresh(self: Any, operation: Any) -> None:
        request = replace(operation.request, client_token=f"{operation.operation_id}-{next(numbers)}")
        launch(self, replace(operation, request=request))

    put(autoscaler.act.perform.Actor, "_launch", fresh)


def lost_launch_counts_as_refused() -> None:
    """A launch whose answer is lost is closed as if EC2 had said no."""
    module = autoscaler.act.perform

    def failed(self: Any, operation: Any, error: PortError) -> None:
        now_s = self._clock.now_s()
        self._holder.apply(
            lambda state: module._call_failed(state, operation, error.code, now_s, self._policy, closes=True)
        )

    put(module.Actor, "_launch_failed", failed)


def counted_by_describe_only() -> None:
    """What EC2 does not list yet does not exist."""
    view = autoscaler.decide.fleet.view_fleet

    def blinkered(snapshot: Any, state: State) -> Any:
        listed = {instance.instance_id for instance in snapshot.instances}
        launches = tuple(
            replace(launch, unidentified=0, instance_ids=tuple(i for i in launch.instance_ids if i in listed))
            for launch in state.launches
        )
        return view(snapshot, replace(state, launches=launches))

    for module in (autoscaler.decide.steps, autoscaler.decide.fleet):
        put(module, "view_fleet", blinkered)


def joining_ignored() -> None:
    """Workers on their way do not count."""
    put(autoscaler.decide.fleet.FleetView, "joining", property(lambda _self: 0))
    put(autoscaler.decide.scheduling.picture.Picture, "_add_coming", lambda *_args: None)


def absence_believed_at_once() -> None:
    """An instance that is not listed is given up at the first look."""
    put(autoscaler.decide.progress.launch, "SETTLE_S", 0)


def empty_means_empty_now() -> None:
    """A worker that was full a minute ago leaves with the idle ones."""
    put(autoscaler.decide.fleet.Worker, "empty_long", property(lambda self: self.empty))


def use_of_a_smaller_fleet_ignored() -> None:
    """Nobody asks whether the workers that stay can carry the use."""
    put(autoscaler.decide.removal.shrink, "too_full_without", lambda *_args: None)


def cool_down_ignored() -> None:
    """Shrinks follow growth, and drains that were undone, at once."""
    _with_policy("plan_shrink", lambda p: replace(p, scale_down=replace(p.scale_down, cool_down_s=0)))


def minimum_ignored() -> None:
    """A shrink goes on below min."""
    _with_policy("plan_shrink", lambda p: replace(p, workers=replace(p.workers, min=0)))


def maximum_ignored() -> None:
    """Growth goes on above max."""
    _with_policy("plan_growth", lambda p: replace(p, workers=replace(p.workers, max=1000)))


def refusals_forgotten() -> None:
    """A worker that was refused is nominated again at once."""
    put(autoscaler.decide.progress.removal, "remember_refusal", lambda state, *_args, **_more: state)


def refusals_do_not_back_off() -> None:
    """A worker that is refused again and again waits no longer than after the first time."""
    put(autoscaler.state.memory, "REFUSED_AT_MOST", 1)


def our_own_end_is_a_failure() -> None:
    """A worker that we end, or EC2, counts as one that did not last."""
    for module in (autoscaler.decide.progress.launch, autoscaler.decide.removal.repair):
        put(module, "was_removed", lambda _state, _instance_id: False)


def cost_cap_ignored() -> None:
    """Growth costs what it costs."""
    put(autoscaler.decide.demand.growth, "within_cap", lambda wanted, *_args, **_more: (tuple(wanted), ""))


def only_ready_workers_cost() -> None:
    """Only Ready workers are paid for."""
    put(autoscaler.decide.capacity.cost, "_PAID", (autoscaler.decide.fleet.Standing.READY,))


MUTANTS: Final[tuple[Mutant, ...]] = (
    unlisted_workers_forgotten,
    no_adoption_by_tag,
    new_token_on_each_send,
    lost_launch_counts_as_refused,
    counted_by_describe_only,
    joining_ignored,
    absence_believed_at_once,
    empty_means_empty_now,
    use_of_a_smaller_fleet_ignored,
    cool_down_ignored,
    minimum_ignored,
    maximum_ignored,
    cost_cap_ignored,
    only_ready_workers_cost,
    refusals_forgotten,
    refusals_do_not_back_off,
    our_own_end_is_a_failure,
)
