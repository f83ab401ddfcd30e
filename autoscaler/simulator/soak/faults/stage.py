"""What faults act on, and one fault of a run."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from autoscaler.model import MANAGED_BY_TAG, Notice
from autoscaler.simulator.cluster import SimCluster
from autoscaler.simulator.soak.fates import Fates
from autoscaler.simulator.soak.watch import Watch


@dataclass(frozen=True, slots=True)
class Episode:
    """One fault: `pick` and `size`, from 0 to 1, choose whom it strikes and how hard."""

    number: int
    kind: str
    at_s: float
    for_s: float
    pick: float
    size: float

    @property
    def key(self) -> str:
        """Its name in a history."""
        return f"episode {self.number}: {self.kind}"


class Stage:
    """What episodes act on."""

    def __init__(
        self,
        cluster: SimCluster,
        watch: Watch,
        fates: Fates,
        later: Callable[[float, Callable[[], None]], None],
        notify: Callable[[tuple[Notice, ...]], None],
    ) -> None:
        self.cluster = cluster
        self.watch = watch
        self.fates = fates
        self.later = later
        """Do something after so many seconds."""
        self.notify = notify
        """EventBridge brings a notice."""
        self.over = False
        """Whether the time of faults is over: who still waits for a moment to strike has missed it."""
        self.broken: set[str] = set()
        """Names of nodes whose kubelet a fault broke."""
        self._tags: dict[tuple[str, str], str] = {}
        """Tags that were taken off: by instance id and key."""

    def untag(self, instance_id: str, key: str) -> None:
        """Take a tag off an instance."""
        tags = self.cluster.ec2.instances[instance_id].tags
        if key in tags:
            self._tags[instance_id, key] = tags.pop(key)
            self.watch.truth.untagged_s[instance_id] = self.cluster.now_s

    def tag_again(self, key: str) -> None:
        """Give back every tag of this key that was taken."""
        for instance_id, taken in [*self._tags]:
            if taken == key:
                value = self._tags.pop((instance_id, taken))
                if instance_id in self.cluster.ec2.instances:
                    self.cluster.ec2.instances[instance_id].tags[key] = value

    def worker(self, pick: float, *, market: str | None = None) -> str | None:
        """A living worker of ours; None for `market`: of any."""
        ours = self.workers(market)
        return ours[int(pick * len(ours))] if ours else None

    def workers(self, market: str | None = None) -> list[str]:
        """The living workers of ours, oldest first."""
        alive = [i for i in self.cluster.ec2.instances.values() if i.ended_at_s is None]
        ours = [i for i in alive if i.tags.get(MANAGED_BY_TAG) == "autoscaler"]
        return [i.instance_id for i in ours if market in {None, i.market}]

    def node(self, pick: float) -> str | None:
        """The Node of a worker, ours or not."""
        names = [n.name for n in self.cluster.world.state.nodes.values() if not n.machine.server]
        return names[int(pick * len(names))] if names else None


Action = Callable[[Stage, Episode], None]
Kinds = Mapping[str, tuple[Action, Action]]
"""By name: how a fault begins, and how it is mended."""


def nothing(_stage: Stage, _episode: Episode) -> None:
    """It ends by itself."""
