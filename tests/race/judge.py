"""What must be true after a round, whoever won it: one effect, one operation, and no write that was lost."""

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from autoscaler.model import State
from tests.race.evidence import Commanded, Entry, Launched, Saved, Terminated, WriteLost
from tests.race.ports import Need
from tests.race.schedule import KILLED, Kind, Round
from tests.race.worker import Looked

ACTION: Final = {Need.GROW: "scale_up", Need.SHRINK: "scale_down"}


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """A round that was played."""

    played: Round
    processes: int
    entries: tuple[Entry, ...]
    state: State
    version: int
    in_progress: bool | None
    """The item's `scaling_in_progress`, which people read."""
    recorded: tuple[dict[str, Any], ...]
    """The history of decisions."""
    looked: tuple[Looked, ...]
    """How every look ended."""
    while_leased: tuple[Looked, ...]
    """How those ended that were taken while another one held the lease."""
    late_holder: Looked | None
    """How the one ended whose lease was taken over."""
    contenders: int | None
    """How many were about to write at the same moment; None where they were not made to."""
    killed: int

    @property
    def sent(self) -> tuple[str, ...]:
        """What arrived at EC2 and SSM, repeats included. The same words are the same effect."""
        return tuple(words for entry in self.entries if (words := _effect(entry)))

    @property
    def acts(self) -> frozenset[str]:
        """The different effects among them."""
        return frozenset(self.sent)

    @property
    def writes_lost(self) -> int:
        """Writes that the table refused."""
        return sum(isinstance(entry, WriteLost) for entry in self.entries)


def problems(ended: Ended) -> list[str]:
    """One sentence for each thing that is not as it must be."""
    checks = (_effects, _operation, _lease_and_fence, _versions, _looks, _history)
    return [problem for check in checks for problem in check(ended)]


def _effects(ended: Ended) -> Iterator[str]:
    if len(ended.acts) != 1:
        yield f"{len(ended.acts)} effects instead of one: {sorted(ended.acts)}"
    elif len(ended.sent) != _sends(ended.played):
        yield f"{next(iter(ended.acts))} was sent {len(ended.sent)} times instead of {_sends(ended.played)}"


def _sends(played: Round) -> int:
    """An effect is sent again, in the same words, only where nobody can know that it happened."""
    if played.kind is Kind.OVERTAKEN:
        return 2
    if played.kind is Kind.KILLED_AFTER:
        adopted = played.need is Need.GROW and played.listed
        return 1 if adopted else 2
    return 1


def _operation(ended: Ended) -> Iterator[str]:
    state = ended.state
    if len(state.launches) + len(state.removals) != 1:
        yield f"{len(state.launches)} launches and {len(state.removals)} removals are open instead of one operation"
    for launch in state.launches:
        given = {
            i
            for entry in ended.entries
            if isinstance(entry, Launched) and entry.request == launch.request
            for i in entry.instance_ids
        }
        if not launch.landed or launch.unidentified or set(launch.instance_ids) != given:
            yield f"the launch knows {launch.instance_ids}, EC2 gave {sorted(given)}"
    for removal in state.removals:
        sent = {
            entry.command_id
            for entry in ended.entries
            if isinstance(entry, Commanded) and entry.operation_id == removal.operation_id
        }
        if removal.command is None or removal.command.command_id not in sent:
            yield f"the removal waits for {removal.command}, SSM has {sorted(sent)}"


def _lease_and_fence(ended: Ended) -> Iterator[str]:
    if ended.state.lease is not None or ended.in_progress is not False:
        yield f"the lease was not let go: {ended.state.lease}, scaling_in_progress {ended.in_progress}"
    first = ended.played.start.fence if ended.played.start is not None else 0
    fences = [entry.fence for entry in ended.entries if isinstance(entry, Saved) and entry.took_lease]
    if fences != list(range(first + 1, first + 1 + len(fences))) or ended.state.fence != first + len(fences):
        yield f"the fence rose from {first} to {ended.state.fence} by leases with the fences {fences}"


def _versions(ended: Ended) -> Iterator[str]:
    first = 1 if ended.played.start is not None else 0
    versions = sorted(entry.version for entry in ended.entries if isinstance(entry, Saved))
    if versions != list(range(first + 1, ended.version + 1)):
        yield f"the item is at version {ended.version} after writes of {versions}: one overwrote another"


def _looks(ended: Ended) -> Iterator[str]:
    if ended.contenders is not None and ended.contenders != ended.processes:
        yield f"{ended.contenders} of {ended.processes} processes wanted to write: that was no race"
    for looked in ended.looked:
        if looked.action == "failed":
            yield f"a look failed: {looked.message}"
    not_busy = [looked for looked in ended.while_leased if looked.action != "busy"]
    if not_busy:
        yield f"{len(not_busy)} looks did not stop at another one's lease: {not_busy}"
    if ended.played.kind is Kind.OVERTAKEN and not _stopped(ended.late_holder):
        yield f"the former holder did not notice that its lease was gone: {ended.late_holder}"


def _stopped(looked: Looked | None) -> bool:
    return looked is not None and any("is no longer ours" in failure for failure in looked.failures)


def _history(ended: Ended) -> Iterator[str]:
    if ended.played.kind in KILLED or ended.played.kind is Kind.OVERTAKEN:
        return  # the dead tell nothing, and the late one tells that it was stopped
    wanted = ACTION[ended.played.need]
    acted = [looked for looked in ended.looked if looked.action not in {"busy", "none"}]
    told = [row for row in ended.recorded if row["action"] != "none"]
    if [looked.action for looked in acted] != [wanted] or [row["action"] for row in told] != [wanted]:
        yield f"{len(acted)} looks say that they acted and {len(told)} decisions are recorded instead of one {wanted}"


def _effect(entry: Entry) -> str:
    match entry:
        case Launched():
            return f"launch {entry.request.client_token}"
        case Commanded():
            return f"{entry.verb.value} {entry.operation_id}"
        case Terminated():
            return f"terminate {entry.instance_id}"
        case Saved() | WriteLost():
            return ""
