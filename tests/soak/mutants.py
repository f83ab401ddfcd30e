"""Seeded bugs of the protocol: each is put in by replacing one attribute of a production module, from out here.

`python -m tests.soak.mutants` plays seeds against each until an invariant fails: a soak that lets one through is weak.
"""

import argparse
import itertools
import multiprocessing
import sys
import time
from collections.abc import Callable
from typing import Any, Final

import msgspec

import autoscaler.act.effects
import autoscaler.act.holder
import autoscaler.act.perform
import autoscaler.decide.decision
import autoscaler.decide.demand.growth
import autoscaler.decide.demand.pods
import autoscaler.decide.fleet
import autoscaler.decide.looking
import autoscaler.decide.progress.draining
import autoscaler.decide.progress.launch
import autoscaler.decide.progress.moves
import autoscaler.decide.progress.removal
import autoscaler.decide.removal.repair
import autoscaler.observe.instances
import autoscaler.observe.nodes
import autoscaler.observe.pods
import autoscaler.observe.presence
import autoscaler.observe.samples
import autoscaler.observe.snapshot
import autoscaler.reconcile
import autoscaler.state.memory
import autoscaler.state.transitions
from autoscaler.model import Lease, Mode, RemovalPhase, State
from autoscaler.ports import Conflict, PortError, StoreUnavailable
from autoscaler.simulator.soak.run import Run

replace = msgspec.structs.replace
SEEDS: Final = 200


def _put(owner: object, name: str, value: object) -> None:
    """Replace what is there; a name that is gone is an error: the mutant would mutate nothing."""
    if not hasattr(owner, name):
        raise AttributeError(f"{owner} has no {name}: this mutant would mutate nothing, mend it")
    setattr(owner, name, value)


def no_expiry() -> None:
    """A lease holds until its owner lets go, as the flag of the user's document did."""

    def held(state: State, owner: str, _now_s: int) -> bool:
        return state.lease is not None and state.lease.owner != owner

    _put(autoscaler.reconcile, "lease_held_by_other", held)


def lease_ignored() -> None:
    """Whoever wants to act acts."""
    _put(autoscaler.reconcile, "lease_held_by_other", lambda _state, _owner, _now_s: False)


def no_owner_check() -> None:
    """The holder writes on after somebody else took the lease over."""

    def reload(self: Any) -> None:
        self.state, self._version = self._store.load()

    _put(autoscaler.act.holder.Holder, "_reload", reload)


def no_fence_increment() -> None:
    """A new owner carries the old fence."""

    def take_lease(state: State, owner: str, expires_at_s: int) -> State:
        return replace(state, lease=Lease(owner=owner, expires_at_s=expires_at_s))

    _put(autoscaler.reconcile, "take_lease", take_lease)


def lease_lasts_an_hour() -> None:
    """A lease outlives its Lambda by far."""
    _put(autoscaler.reconcile, "LEASE_MARGIN_S", 3600)


def intent_after_effect() -> None:
    """The launch goes out first and is noted afterwards."""
    save = autoscaler.reconcile._Run._save

    def save_late(self: Any, intended: State, version: int) -> int | None:
        known = {launch.operation_id for launch in self.ports.store.load()[0].launches}
        for launch in intended.launches:
            if launch.operation_id not in known:
                self.ports.fleet.launch(launch.request)
        return save(self, intended, version)

    _put(autoscaler.reconcile._Run, "_save", save_late)


def lost_write_taken_for_granted() -> None:
    """A write whose answer is lost counts as written."""

    def hopeful(self: Any, intended: State, version: int) -> int | None:
        store = self.ports.store
        try:
            return int(store.save(intended, version))
        except StoreUnavailable:
            return version + 1
        except Conflict:
            return None

    _put(autoscaler.reconcile._Run, "_save", hopeful)


def conflict_overwritten() -> None:
    """A write that lost the race is repeated over the winner's."""

    def save(self: Any, intended: State, _version: int) -> int:
        while True:
            try:
                return int(self.ports.store.save(intended, self.ports.store.load()[1]))
            except Conflict:
                continue

    _put(autoscaler.reconcile._Run, "_save", save)


def unknown_window_is_idle() -> None:
    """A window that Prometheus does not know counts as no use at all."""
    parse = autoscaler.observe.nodes.parse_utilisation

    def lenient(samples: Any, policy: Any) -> Any:
        return tuple(
            replace(u, shrink_max=u.shrink_max if u.shrink_max is not None else 0.0) for u in parse(samples, policy)
        )

    _put(autoscaler.observe.snapshot, "parse_utilisation", lenient)


def partial_metrics_pass_for_whole() -> None:
    """What is missing or stale is not noticed."""
    nothing = autoscaler.observe.presence.Proofs(cluster=(), other=(), unshown=())
    _put(autoscaler.observe.snapshot, "prove", lambda *_args, **_more: nothing)


def another_cluster_believed() -> None:
    """Nobody asks whether the Nodes that are shown are ours."""
    _put(autoscaler.observe.snapshot, "_another_world", lambda *_args: ())


def two_clusters_taken_for_one() -> None:
    """Nobody asks whether one target shows every Node."""
    _put(autoscaler.observe.presence, "_one_world", lambda _rows, _nodes: [])


def hidden_volumes_are_none() -> None:
    """Where no annotation is shown, no volume is on any node."""
    _put(autoscaler.observe.snapshot, "volumes_shown", lambda _rows: True)


def deleted_pods_wait() -> None:
    """A pod that a finalizer holds still asks for a worker."""
    parse = autoscaler.observe.pods.parse_unbound

    def greedy(rows: Any) -> Any:
        families = {family: found for family, found in rows.families.items() if family != "pod_deleting"}
        return parse(autoscaler.observe.samples.Rows(rows.at_s, families, rows.garbage))

    _put(autoscaler.observe.snapshot, "parse_unbound", greedy)


def uncordon_forgotten() -> None:
    """A removal that is given up is closed, and its Node stays cordoned."""
    module = autoscaler.decide.progress.removal

    def close(_look: Any, state: State, removal: Any, _why: str) -> State:
        return autoscaler.state.transitions.update_removal(state, removal.operation_id, lambda _: None)

    _put(module, "uncordon", close)


def removals_forgotten() -> None:
    """What we removed is a loss like any other when the metrics show it once more."""

    def close(state: State, removal: Any, **_times: int) -> State:
        return autoscaler.state.transitions.update_removal(state, removal.operation_id, lambda _: None)

    _put(autoscaler.decide.progress.removal, "removal_ended", close)


def our_own_end_is_a_failure() -> None:
    """A worker that we end, or EC2, counts as one that did not last."""
    for module in (autoscaler.decide.progress.launch, autoscaler.decide.removal.repair):
        _put(module, "was_removed", lambda _state, _instance_id: False)


def refusals_forgotten() -> None:
    """A worker that was refused is nominated again at once."""
    _put(autoscaler.decide.progress.removal, "remember_refusal", lambda state, *_args, **_more: state)


def refusals_do_not_back_off() -> None:
    """A worker that is refused again and again waits no longer than after the first time."""
    _put(autoscaler.state.memory, "REFUSED_AT_MOST", 1)


def unlisted_workers_forgotten() -> None:
    """In the dark only what EC2 lists counts against max."""
    plan = autoscaler.decide.demand.growth.plan_blind_growth

    def forgetful(snapshot: Any, fleet: Any, state: State, policy: Any) -> Any:
        return plan(snapshot, fleet, replace(state, unlisted_workers=0), policy)

    _put(autoscaler.decide.decision, "plan_blind_growth", forgetful)


def told_failures_forgotten() -> None:
    """People hear of a failure at every look, as long as it lasts."""
    _put(autoscaler.act.perform, "failure_told", lambda state, _operation_id, _cause: state)


def protected_worker_kept_cordoned() -> None:
    """A worker that EC2 refuses to end stays in its removal for ever."""
    _put(autoscaler.act.perform, "hand_back", lambda state, *_args, **_more: state)


def terminate_without_drain() -> None:
    """A drain that failed counts as one that is over."""
    terminate = autoscaler.decide.progress.moves.terminate
    _put(
        autoscaler.decide.progress.draining,
        "_failed",
        lambda look, state, removal, _result: terminate(look, state, removal),
    )


def drain_skipped() -> None:
    """A worker is terminated as soon as it is chosen."""
    new_removal = autoscaler.decide.looking.new_removal

    def straight(*args: Any, **more: Any) -> Any:
        return new_removal(*args, **{**more, "phase": RemovalPhase.TERMINATING})

    _put(autoscaler.decide.decision, "new_removal", straight)


def no_adoption_by_tag() -> None:
    """Instances are known by EC2's answer only."""
    _put(autoscaler.decide.progress.launch, "_adopt", lambda _look, launch: launch)


def new_token_on_each_send() -> None:
    """A launch that is sent again is a new one to EC2."""
    launch = autoscaler.act.perform.Actor._launch
    numbers = itertools.count()

    def fresh(self: Any, operation: Any) -> None:
        request = replace(operation.request, client_token=f"{operation.operation_id}-{next(numbers)}")
        launch(self, replace(operation, request=request))

    _put(autoscaler.act.perform.Actor, "_launch", fresh)


def lost_launch_counts_as_refused() -> None:
    """A launch whose answer is lost is closed as if EC2 had said no."""
    module = autoscaler.act.perform

    def failed(self: Any, operation: Any, error: PortError) -> None:
        now_s = self._clock.now_s()
        self._holder.apply(
            lambda state: module._call_failed(state, operation, error.code, now_s, self._policy, closes=True)
        )

    _put(module.Actor, "_launch_failed", failed)


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

    for module in (autoscaler.decide.decision, autoscaler.decide.fleet):
        _put(module, "view_fleet", blinkered)


def joining_ignored() -> None:
    """Workers on their way do not count."""
    _put(autoscaler.decide.fleet.FleetView, "joining", property(lambda _self: 0))
    _put(autoscaler.decide.demand.pods, "_coming_rooms", lambda *_args: [])


def absence_believed_at_once() -> None:
    """An instance that is not listed is given up at the first look."""
    _put(autoscaler.decide.progress.launch, "SETTLE_S", 0)


def _with_policy(name: str, change: Callable[[Any], Any]) -> None:
    plan = getattr(autoscaler.decide.decision, name)

    def changed(snapshot: Any, fleet: Any, state: Any, policy: Any, **more: Any) -> Any:
        return plan(snapshot, fleet, state, change(policy), **more)

    setattr(autoscaler.decide.decision, name, changed)


def cool_down_ignored() -> None:
    """Shrinks follow each other, and growth, at once."""
    _with_policy("plan_shrink", lambda p: replace(p, scale_down=replace(p.scale_down, cool_down_s=0)))


def minimum_ignored() -> None:
    """A shrink goes on below min."""
    _with_policy("plan_shrink", lambda p: replace(p, workers=replace(p.workers, min=0)))


def maximum_ignored() -> None:
    """Growth goes on above max."""
    _with_policy("plan_growth", lambda p: replace(p, workers=replace(p.workers, max=1000)))


def node_deleted_first() -> None:
    """The Node goes before its instance."""
    module = autoscaler.decide.progress.removal

    def delete(look: Any, state: State, removal: Any) -> State:
        changed = autoscaler.state.transitions.enter_phase(
            removal, RemovalPhase.DELETING, now_s=look.now_s, fence=look.fence, not_after_s=look.start_by_s
        )
        return autoscaler.state.transitions.update_removal(state, removal.operation_id, lambda _: changed)

    _put(module, "_terminate", delete)


def phases_go_backwards() -> None:
    """A worker that is being terminated is taken back when pods wait."""
    module = autoscaler.decide.progress.removal
    forward = autoscaler.state.transitions._FORWARD
    forward[RemovalPhase.TERMINATING] = forward[RemovalPhase.DRAINING]
    advance = module.advance_removal

    def back(look: Any, state: State, removal: Any, **more: Any) -> State:
        if removal.phase is RemovalPhase.TERMINATING and removal.node_name and look.now_s % 3 == 0:
            return autoscaler.decide.progress.moves.uncordon(look, state, removal, "changed our mind")
        return advance(look, state, removal, **more)

    _put(autoscaler.decide.decision, "advance_removal", back)


def tags_ignored() -> None:
    """Every worker of the cluster is taken for ours."""
    parse = autoscaler.observe.instances.parse_instances

    def greedy(rows: Any, cluster_id: str) -> Any:
        return tuple(replace(i, managed=not i.server) for i in parse(rows, cluster_id))

    _put(autoscaler.observe.snapshot, "parse_instances", greedy)


def pause_ignored() -> None:
    """The operator's word is not read."""
    _put(autoscaler.reconcile, "effective_mode", lambda _state, _policy, _now_s: Mode.ACTIVE)


def resume_forgotten() -> None:
    """Only the invocation that opened an operation carries it out."""
    due = autoscaler.act.effects.due_effects

    def own(state: State, snapshot: Any, policy: Any) -> Any:
        return tuple(e for e in due(state, snapshot, policy) if snapshot.taken_at_s - _begun_s(e.operation) < 60)

    _put(autoscaler.reconcile, "due_effects", own)


def _begun_s(operation: Any) -> int:
    return int(getattr(operation, "phase_since_s", operation.created_at_s))


MUTANTS: Final[tuple[Callable[[], None], ...]] = (
    no_expiry,
    lease_ignored,
    no_owner_check,
    no_fence_increment,
    lease_lasts_an_hour,
    intent_after_effect,
    lost_write_taken_for_granted,
    conflict_overwritten,
    unknown_window_is_idle,
    partial_metrics_pass_for_whole,
    another_cluster_believed,
    two_clusters_taken_for_one,
    hidden_volumes_are_none,
    deleted_pods_wait,
    uncordon_forgotten,
    removals_forgotten,
    our_own_end_is_a_failure,
    refusals_forgotten,
    refusals_do_not_back_off,
    unlisted_workers_forgotten,
    told_failures_forgotten,
    protected_worker_kept_cordoned,
    terminate_without_drain,
    drain_skipped,
    no_adoption_by_tag,
    new_token_on_each_send,
    lost_launch_counts_as_refused,
    counted_by_describe_only,
    joining_ignored,
    absence_believed_at_once,
    cool_down_ignored,
    minimum_ignored,
    maximum_ignored,
    node_deleted_first,
    phases_go_backwards,
    tags_ignored,
    pause_ignored,
    resume_forgotten,
)


def hunt(name: str, seeds: int) -> tuple[str, str, int]:
    """Put one bug in - for good, in this process - and play until it is caught: (mutant, invariant, seed)."""
    mutant = next(one for one in MUTANTS if one.__name__ == name)
    mutant()
    for seed in range(seeds):
        violation = Run(seed).run().violation
        if violation is not None:
            return name, violation.invariant, seed
    return name, "", seeds


def hunt_in_a_child(name: str, seeds: int) -> tuple[str, str, int]:
    """Hunt one in a process of its own, which takes the bug away with it."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(hunt, (name, seeds))


def main() -> int:
    """Hunt every mutant, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="mutants to hunt (default: all)")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    options = parser.parse_args()
    names = options.names or [mutant.__name__ for mutant in MUTANTS]
    began_s = time.monotonic()
    caught = 0
    # One process a mutant: what was patched is never patched back.
    with multiprocessing.get_context("fork").Pool(2, maxtasksperchild=1) as pool:
        waiting = [(name, pool.apply_async(hunt, (name, options.seeds))) for name in names]
        for name, answer in waiting:
            _, invariant, seed = answer.get()
            caught += bool(invariant)
            verdict = f"caught by {invariant} (seed {seed})" if invariant else f"NOT CAUGHT by {seed} seeds"
            sys.stdout.write(f"  {name:32} {verdict}\n")
            sys.stdout.flush()
    sys.stdout.write(f"{caught}/{len(names)} mutants caught in {time.monotonic() - began_s:.0f} s\n")
    return 0 if caught == len(names) else 1


if __name__ == "__main__":
    sys.exit(main())
