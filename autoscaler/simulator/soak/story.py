"""Small clusters with something to do: each is played once for every single thing that can go wrong in it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from autoscaler.model import Notice
from autoscaler.policy import Drain, Policy
from autoscaler.simulator.cluster import SimCluster
from autoscaler.simulator.ec2 import Ec2Settings
from autoscaler.simulator.world.workload import MIB, Ask, PodTemplate, Workload

INTERRUPTION_S: Final = 120.0
"""From EC2's notice to the end of a Spot instance (EC2 User Guide, "Spot Instance interruption notices")."""
SEEN_AFTER_S: Final = 50.0
"""Longer than a lease, shorter than V (assumptions.py)."""
WEB: Final = "shop/web"


class Outside(Protocol):
    """What a change from outside can reach."""

    cluster: SimCluster

    def notice(self, fact: Notice) -> None:
        """EC2 gives notice: EventBridge wakes the function, again after a minute if it fails."""
        ...

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        """Let something happen later."""
        ...


@dataclass(frozen=True, slots=True)
class Change:
    """What comes from outside, `after_s` from the first look or as soon after that as `once` holds."""

    after_s: float
    apply: Callable[[Outside], None]
    once: Callable[[SimCluster], bool] = lambda _cluster: True


@dataclass(frozen=True, slots=True)
class Story:
    """A cluster with something to do, and how often it is looked at."""

    name: str
    begin: Callable[[], SimCluster]
    every_s: float
    changes: tuple[Change, ...] = ()


def _web(replicas: int, *, millicores: int, stop_s: float = 1.0) -> Workload:
    template = PodTemplate(request=Ask(cpu_millicores=millicores, memory_bytes=100 * MIB), stop_s=stop_s)
    return Workload(namespace="shop", name="web", replicas=replicas, template=template)


def _too_few(visibility_s: float) -> SimCluster:
    """Eight pods of 0.9 CPU on two workers that hold two each: two more workers, in two zones, are needed."""
    cluster = SimCluster(Policy(version=1), ec2=Ec2Settings(visibility_s=visibility_s))
    cluster.apply(_web(8, millicores=900))
    cluster.run(15)
    return cluster


def _seen_at_once() -> SimCluster:
    return _too_few(0.0)


def _seen_late() -> SimCluster:
    """DescribeInstances lists a new worker only after the lease of whoever launched it is over."""
    return _too_few(SEEN_AFTER_S)


def _one_too_many(policy: Policy, *, stop_s: float) -> SimCluster:
    """Three workers, some pods to move, and calm for long enough."""
    cluster = SimCluster(policy, workers=3)
    cluster.apply(_web(4, millicores=200, stop_s=stop_s))
    cluster.run(15)
    return cluster


def _superfluous() -> SimCluster:
    return _one_too_many(Policy(version=1), stop_s=1.0)


def _leaves_slowly() -> SimCluster:
    """Its pods take a minute and a half to stop: much can come to pass while it is drained."""
    return _one_too_many(Policy(version=1), stop_s=90.0)


def _never_leaves() -> SimCluster:
    """Its pods take longer to stop than a drain may, and what the script undoes by itself stays undone."""
    cluster = _one_too_many(Policy(version=1, drain=Drain(timeout_s=45)), stop_s=400.0)
    cluster.world.faults.cordon_stays = True
    return cluster


def _is_drained(cluster: SimCluster) -> bool:
    return any(node.cordoned for node in cluster.world.nodes)


def _load_comes(outside: Outside) -> None:
    """More pods than those workers hold that nobody drains."""
    outside.cluster.world.scale(WEB, 26)


def _interrupt(outside: Outside) -> None:
    """EC2 takes back the oldest worker, which is the one that a shrink chooses."""
    cluster = outside.cluster
    alive = [cluster.ec2.instances[instance_id] for instance_id in cluster.workers()]
    if not alive:
        return
    victim = min(alive, key=lambda instance: (instance.launched_at_s, instance.instance_id)).instance_id

    def end() -> None:
        if cluster.ec2.instances[victim].ended_at_s is None:
            cluster.ec2.end(victim)

    outside.later(INTERRUPTION_S, end)
    outside.notice(Notice(kind="interruption", subject=victim, received_at_s=int(cluster.now_s)))


SCALE_UP: Final = Story("scale-up", _seen_at_once, every_s=30.0)
SEEN_LATE: Final = Story("seen late", _seen_late, every_s=30.0)
SCALE_DOWN: Final = Story("scale-down", _superfluous, every_s=60.0)
TAKEN_BACK: Final = Story("taken back", _leaves_slowly, every_s=60.0, changes=(Change(30.0, _load_comes, _is_drained),))
INTERRUPTED: Final = Story("interrupted", _leaves_slowly, every_s=60.0, changes=(Change(30.0, _interrupt),))
GIVEN_UP: Final = Story("given up", _never_leaves, every_s=60.0)
STORIES: Final = (SCALE_UP, SEEN_LATE, SCALE_DOWN, TAKEN_BACK, INTERRUPTED, GIVEN_UP)
