"""Large clusters as Prometheus, EC2 and a server answer: `bench.decide_size` looks at them, one after the other.

An answer is the JSON text that a real Prometheus would send, so that decoding is part of what is measured. A worker
runs 30 pods, ten of them of the owners whose pods wait too. The workers are full for what waits, but for every 20th.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Final

import msgspec

from autoscaler.model import CLUSTER_TAG, MANAGED_BY_TAG, MANAGED_BY_VALUE, POOL_TAG, ROLE_TAG, SchedulingRules, State
from autoscaler.model.rules import (
    HOSTNAME_LABEL,
    OwnerRules,
    PodRules,
    PodTerm,
    SpreadConstraint,
    Toleration,
    equal_to,
)
from autoscaler.observe.series import COUNTED, FAMILY, KUBE_STATE_METRICS, NODE_EXPORTER
from autoscaler.policy import Policy
from autoscaler.policy_text import parse_policy
from autoscaler.simulator.metrics.promql import Moving, Places, Question, Rooms, Sight

CLUSTER_ID: Final = "bench"
NOW_S: Final = 1_800_000_000
OLD_S: Final = NOW_S - 86_400
PODS_ON_A_NODE: Final = 30
OF_THE_OWNERS: Final = 10
WAITING_PER_NODE: Final = 4
SOME_ROOM_EVERY: Final = 20
OWNERS: Final = 200
ZONES: Final = ("eu-central-1a", "eu-central-1b", "eu-central-1c")
ZONE_LABEL: Final = "topology.kubernetes.io/zone"
INSTANCE_TYPE: Final = "m5.2xlarge"
CPU_MILLICORES: Final = 7_900
MEMORY_MIB: Final = 30_400
MIB: Final = 2**20
_ONE_POOL: Final = f"  instance_types: [{INSTANCE_TYPE}]\n"
_POOLS: Final = f"""  pools:
    - name: general
      instance_types: [{INSTANCE_TYPE}]
    - name: any
      requirements: {{cpu: 2-16, memory_per_cpu: 2-8 GiB, arch: [amd64], generation: ">=5"}}
    - name: batch
      instance_types: [{INSTANCE_TYPE}]
      taints: ["team=batch:NoSchedule"]
      labels: {{team: batch}}
"""


class Mix(msgspec.Struct, frozen=True, kw_only=True):
    """What kind of cluster it is."""

    waits: bool = False
    """Four pods for each node."""
    waited_s: int = 15
    owners: int = OWNERS
    constrained: bool = False
    """The owners ask for spread, distance, company, labels of nodes; or nothing."""
    pools: bool = False
    shrinks: bool = False
    """More workers than the policy's min, nothing else to do."""
    tight: bool = False
    """No worker has room for any other pod."""


MIXES: Final[dict[str, Mix]] = {
    "calm": Mix(),
    "settled": Mix(shrinks=True, tight=True),
    "shrink": Mix(shrinks=True),
    "alike": Mix(waits=True, owners=1),
    "owners": Mix(waits=True),
    "constrained": Mix(waits=True, constrained=True),
    "disputed": Mix(waits=True, waited_s=120),
    "pools": Mix(waits=True, pools=True),
}


class Crowd:
    """One cluster of `nodes` workers, and one server."""

    def __init__(self, mix: Mix, nodes: int) -> None:
        self.mix, self.nodes = mix, nodes
        self.waiting = WAITING_PER_NODE * nodes if mix.waits else 0
        self.state = State(last_scale_up_s=OLD_S, last_scale_down_s=OLD_S)
        self._rules = [self._of_owner(number) for number in range(mix.owners)]

    @cached_property
    def policy(self) -> Policy:
        """Its limits are beyond what a file may state: no file's 1,000 workers are 5,000."""
        policy = parse_policy(f"version: 1\nworkers:\n{_POOLS if self.mix.pools else _ONE_POOL}")
        least = 1 if self.mix.shrinks else self.nodes
        workers = msgspec.structs.replace(policy.workers, min=least, max=self.nodes + 1_000)
        return msgspec.structs.replace(policy, workers=workers)

    @cached_property
    def rules(self) -> SchedulingRules:
        """What a server told a minute ago."""
        owners = tuple(
            OwnerRules(owner=f"team-{number % 20}/ReplicaSet/{_owner(number)}", rules=rules, seen_at_s=NOW_S - 5)
            for number, rules in enumerate(self._rules)
        )
        return SchedulingRules(answered_at_s=NOW_S - 5, owners=owners)

    def _of_owner(self, number: int) -> PodRules:
        """A sixth of the constrained each: nothing, spread over zones or hosts, one to a host, a label, company."""
        labels = {"app": f"app-{number}"}
        its_own = equal_to(labels)
        kind = number % 6 if self.mix.constrained else 0
        spread = {1: (ZONE_LABEL, 1), 5: (HOSTNAME_LABEL, 2)}.get(kind)
        tolerates = self.mix.pools and number % 4 == 0
        return PodRules(
            namespace=f"team-{number % 20}",
            labels=tuple(labels.items()),
            requests=tuple(self._asks(number).items()),
            tolerations=(Toleration(key="team", value="batch"),) if tolerates else (),
            node_selector=(("kubernetes.io/arch", "amd64"),) if kind == 3 else (("team", "batch"),) * tolerates,
            affinity=(PodTerm(selector=its_own, topology_key=ZONE_LABEL),) if kind == 4 else (),
            anti_affinity=(PodTerm(selector=its_own, topology_key=HOSTNAME_LABEL),) if kind == 2 else (),
            spread=(SpreadConstraint(topology_key=spread[0], max_skew=spread[1], selector=its_own),) if spread else (),
        )

    @staticmethod
    def _asks(number: int) -> dict[str, int]:
        return {"cpu": 250 + 10 * (number % 20), "memory": (256 + 16 * (number % 9)) * MIB}

    # ------------------------------------------------------------------------------------------------------------- EC2

    def instances(self) -> list[dict[str, Any]]:
        """The DescribeInstances rows."""
        return [self._instance(number) for number in range(self.nodes + 1)]

    def _instance(self, number: int) -> dict[str, Any]:
        tags = {CLUSTER_TAG: CLUSTER_ID} | ({MANAGED_BY_TAG: MANAGED_BY_VALUE} if number else {ROLE_TAG: "server"})
        if number and self.mix.pools:
            tags[POOL_TAG] = self._pool(number)
        return {
            "InstanceId": f"i-{number:017x}",
            "InstanceType": INSTANCE_TYPE,
            "State": {"Code": 16, "Name": "running"},
            "LaunchTime": datetime.fromtimestamp(OLD_S - 60 + number, tz=UTC),
            "Placement": {"AvailabilityZone": _zone(number)},
            "SubnetId": f"subnet-{_zone(number)[-1]}",
            "Tags": [{"Key": key, "Value": value} for key, value in tags.items()],
        }

    @staticmethod
    def _pool(number: int) -> str:
        return "batch" if number % 4 == 0 else "general"

    # ------------------------------------------------------------------------------------------------------ Prometheus

    def answer(self, question: Question) -> bytes:
        """The body of Prometheus' answer. Raises TypeError for a question that no such cluster is asked."""
        rows: list[_Row]
        match question:
            case Sight():
                rows = list(self._sight())
            case Rooms():
                rows = list(self._rooms())
            case Moving(nodes=nodes):
                rows = [row for name in nodes for row in self._moving(name)]
            case Places():
                rows = list(self._places())
            case _:
                raise TypeError(f"no answer to {question}")
        result = [_as_json(*row) for row in rows]
        return json.dumps({"status": "success", "data": {"resultType": "vector", "result": result}}).encode()

    def _sight(self) -> Iterator["_Row"]:
        rows = [*self._node_rows(), *self._waiting_rows(), ("node_local_volumes", {"node": "none"}, "1")]
        yield from rows
        for family in (*COUNTED, "node_unmeasured"):
            yield "counted", {"of": family}, str(sum(row[0] == family for row in rows))
        every = str(self.nodes + 1)
        shown = {
            "kube_node_status_condition": every,
            "kube_node_spec_unschedulable": every,
            "kube_node_labels": str(self.nodes),
            "kube_node_status_addresses": every,
            "kube_persistentvolume_info": "1",
            "kube_persistentvolume_annotations": "1",
            "kube_node_spec_pod_cidrs": every,
        }
        for family, count in shown.items():
            yield "shown", {"of": family}, count
        use = {"use": "0.5", "use_grow_min": "0.5", "use_grow_count": "4"}
        for family, value in {**use, "use_shrink_max": "0.5", "use_shrink_count": "40"}.items():
            for resource in ("cpu", "memory"):
                yield family, {"resource": resource}, value
        yield "volumes_of", {"csi_driver": "k3s-autoscaler-proof"}, "1"
        yield "source_nodes", {"instance": "10.42.0.9:8080", "job": KUBE_STATE_METRICS}, every
        for source, interval_s in ((KUBE_STATE_METRICS, "2"), (NODE_EXPORTER, "15")):
            yield "scraped_at", {"source": source}, str(NOW_S - 1)
            yield "scrape_interval", {"source": source}, interval_s
        yield self._evaluated()

    @staticmethod
    def _evaluated() -> "_Row":
        return "evaluated_at", {"group": "utilisation", "interval_s": "15"}, str(NOW_S - 5)

    def _node_rows(self) -> Iterator["_Row"]:
        sizes = {"cpu": str(CPU_MILLICORES / 1000), "memory": str(MEMORY_MIB * MIB), "pods": "110"}
        for number in range(self.nodes + 1):
            provider_id = f"aws:///{_zone(number)}/i-{number:017x}"
            yield "node", {"node": _node(number), "provider_id": provider_id, **sizes}, str(OLD_S + number)
            if number and self.mix.pools and self._pool(number) == "batch":
                yield "node_taint", {"node": _node(number), "key": "team", "effect": "NoSchedule"}, "1"
        yield "node_control_plane", {"node": _node(0)}, "1"

    def _waiting_rows(self) -> Iterator["_Row"]:
        for number in range(self.waiting):
            owner = number % self.mix.owners
            pod = {"namespace": f"team-{owner % 20}", "pod": f"{_owner(owner)}-{number:05x}", "uid": f"{number:032x}"}
            yield "pod_unbound", {**pod, "created_by_kind": "ReplicaSet", "created_by_name": _owner(owner)}, "1"
            yield "pod_pending", pod, "1"
            yield "pod_unschedulable", pod, str(NOW_S - self.mix.waited_s)
            yield from _requests(pod, self._asks(owner))

    def _rooms(self) -> Iterator["_Row"]:
        for number in range(self.nodes + 1):
            node, used = {"node": _node(number)}, self._used(number)
            for resource, value in (("cpu", used["cpu"] / 1000), ("memory", used["memory"])):
                yield "requested", {**node, "resource": resource}, str(value)
                yield "requested_max", {**node, "resource": resource}, str(value)
                yield "requested_count", {**node, "resource": resource}, "40"
            yield "requested", node, str(PODS_ON_A_NODE - 2)
            yield "requested", {**node, "stays": "true"}, "2"
            yield "requested_max", node, str(PODS_ON_A_NODE - 2)
            yield "requested_count", node, "40"
            labels = {
                "label_node_kubernetes_io_instance_type": INSTANCE_TYPE,
                "label_topology_kubernetes_io_zone": _zone(number),
                "label_kubernetes_io_arch": "amd64",
            }
            if number:
                labels |= {"label_k3s_autoscaler_managed": "true", "label_k3s_autoscaler_capacity_type": "on-demand"}
                if self.mix.pools:
                    labels |= {"label_k3s_autoscaler_pool": self._pool(number)}
                    labels |= {"label_team": "batch"} if self._pool(number) == "batch" else {}
            yield "node_labels", {**node, **labels}, "1"
        for number in range(self.waiting):
            owner = number % self.mix.owners
            pod = {"namespace": f"team-{owner % 20}", "pod": f"{_owner(owner)}-{number:05x}", "uid": f"{number:032x}"}
            yield "pod_selector", pod, "1"
        yield self._evaluated()

    def _used(self, number: int) -> dict[str, int]:
        """Less than 200 millicores are free; on every 20th worker, where some just ended, two cores more."""
        free = number * 37 % 200
        if number % SOME_ROOM_EVERY == 0 and not self.mix.tight:
            free += 2_000
        return {"cpu": CPU_MILLICORES - free, "memory": (MEMORY_MIB - 4_000 - number * 53 % 3_000) * MIB}

    def _moving(self, name: str) -> Iterator["_Row"]:
        number = int(name.removeprefix("worker-i-"), 16)
        owners = [(number + 33 * place) % OWNERS for place in range(PODS_ON_A_NODE)]
        used, asked = self._used(number), [self._asks(owner) for owner in owners]
        # What the Node's sum is more than its pods ask for, a DaemonSet's does, which stays.
        rest = {resource: max(0, used[resource] - sum(one[resource] for one in asked[1:])) for resource in used}
        for place, owner in enumerate(owners):
            uid = f"{number:016x}{place:016x}"
            pod = {"namespace": f"team-{owner % 20}", "pod": f"{_owner(owner)}-{uid[-4:]}-{number:x}", "uid": uid}
            kind = "DaemonSet" if place < 2 else "ReplicaSet"
            owned = {"created_by_kind": kind, "created_by_name": _owner(owner)}
            yield "pod", {**pod, "node": name, **owned}, "1"
            yield from _requests(pod, asked[place] if place else rest)
            yield "pod_selector", pod, "1"

    def _places(self) -> Iterator["_Row"]:
        """Of every owner at once: whoever reads picks."""
        count = 0
        for number in range(1, self.nodes + 1):
            for place in range(OF_THE_OWNERS):
                owner = (number + 33 * place) % self.mix.owners
                labels = {"created_by_kind": "ReplicaSet", "created_by_name": _owner(owner), "node": _node(number)}
                yield "place", {**labels, "namespace": f"team-{owner % 20}"}, "1"
                count += 1
        yield "counted", {"of": "place"}, str(count)


_Row = tuple[str, Mapping[str, str], str]
"""Family, labels, value."""


def _as_json(family: str, labels: Mapping[str, str], value: str) -> dict[str, Any]:
    return {"metric": {**labels, FAMILY: family}, "value": [NOW_S, value]}


def _requests(pod: Mapping[str, str], asks: Mapping[str, int]) -> Sequence[_Row]:
    app = {**pod, "part": "app"}
    return (
        ("pod_requests", {**app, "resource": "cpu"}, f"{asks['cpu'] / 1000:g}"),
        ("pod_requests", {**app, "resource": "memory"}, str(asks["memory"])),
    )


def _owner(number: int) -> str:
    return f"app-{number}-6d5f7c9b8"


def _node(number: int) -> str:
    return f"worker-i-{number:017x}" if number else "server-0"


def _zone(number: int) -> str:
    return ZONES[number % len(ZONES)]
