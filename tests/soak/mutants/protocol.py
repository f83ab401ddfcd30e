"""Bugs of the lease, the fence, writes, and of whoever goes on after a crash."""

from typing import Any, Final

import msgspec

import autoscaler.act.effects
import autoscaler.act.holder
import autoscaler.act.perform
import autoscaler.reconcile
from autoscaler.model import Lease, Mode, State
from autoscaler.ports import Conflict, StoreUnavailable
from tests.soak.mutants.put import Mutant, put

replace = msgspec.structs.replace


def _begun_s(operation: Any) -> int:
    return int(getattr(operation, "phase_since_s", operation.created_at_s))


def no_expiry() -> None:
    """A lease holds until its owner lets go, as the flag of the user's document did."""

    def held(state: State, owner: str, _now_s: int) -> bool:
        return state.lease is not None and state.lease.owner != owner

    put(autoscaler.reconcile, "lease_held_by_other", held)


def lease_ignored() -> None:
    """Whoever wants to act acts."""
    put(autoscaler.reconcile, "lease_held_by_other", lambda _state, _owner, _now_s: False)


def no_owner_check() -> None:
    """The holder writes on after somebody else took the lease over."""

    def reload(self: Any) -> None:
        self.state, self._version = self._store.load()

    put(autoscaler.act.holder.Holder, "_reload", reload)


def no_fence_increment() -> None:
    """A new owner carries the old fence."""

    def take_lease(state: State, owner: str, expires_at_s: int) -> State:
        return replace(state, lease=Lease(owner=owner, expires_at_s=expires_at_s))

    put(autoscaler.reconcile, "take_lease", take_lease)


def lease_lasts_an_hour() -> None:
    """A lease outlives its Lambda by far."""
    put(autoscaler.reconcile, "LEASE_MARGIN_S", 3600)


def intent_after_effect() -> None:
    """The launch goes out first and is noted afterwards."""
    save = autoscaler.reconcile._Run._save

    def save_late(self: Any, intended: State, version: int) -> int | None:
        known = {launch.operation_id for launch in self.ports.store.load()[0].launches}
        for launch in intended.launches:
            if launch.operation_id not in known:
                self.ports.fleet.launch(launch.request)
        return save(self, intended, version)

    put(autoscaler.reconcile._Run, "_save", save_late)


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

    put(autoscaler.reconcile._Run, "_save", hopeful)


def conflict_overwritten() -> None:
    """A write that lost the race is repeated over the winner's."""

    def save(self: Any, intended: State, _version: int) -> int:
        while True:
            try:
                return int(self.ports.store.save(intended, self.ports.store.load()[1]))
            except Conflict:
                continue

    put(autoscaler.reconcile._Run, "_save", save)


def resume_forgotten() -> None:
    """Only the invocation that opened an operation carries it out."""
    due = autoscaler.act.effects.due_effects

    def own(state: State, snapshot: Any, policy: Any) -> Any:
        return tuple(e for e in due(state, snapshot, policy) if snapshot.taken_at_s - _begun_s(e.operation) < 60)

    put(autoscaler.reconcile, "due_effects", own)


def pause_ignored() -> None:
    """The operator's word is not read."""
    put(autoscaler.reconcile, "effective_mode", lambda _state, _policy, _now_s: Mode.ACTIVE)


def told_failures_forgotten() -> None:
    """People hear of a failure at every look, as long as it lasts."""
    put(autoscaler.reconcile, "failure_told", lambda state, _operation_id, _cause: state)


MUTANTS: Final[tuple[Mutant, ...]] = (
    no_expiry,
    lease_ignored,
    no_owner_check,
    no_fence_increment,
    lease_lasts_an_hour,
    intent_after_effect,
    lost_write_taken_for_granted,
    conflict_overwritten,
    resume_forgotten,
    pause_ignored,
    told_failures_forgotten,
)
