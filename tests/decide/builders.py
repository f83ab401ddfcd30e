"""A cluster in one line: `snapshot(workers=[worker(1), worker(2)], pods=[waiting("web")])`."""

from collections.abc import Sequence
from typing import Any

import msgspec

from autoscaler.decide.capacity.launch import LaunchPlan, plan_launch
from autoscaler.decide.decision import decide, with_plan
from autoscaler.model import (
    CommandOutcome,
    CommandRef,
    CommandResult,
    Cordon,
    DaemonSet,
    Decision,
    Found,
    Inspection,
    Instance,
    InstanceState,
    LaunchContext,
    LaunchOperation,
    LaunchOverride,
    LaunchRequest,
    MetricsStatus,
    Node,
    Notice,
    Pod,
    RemovalOperation,
    RemovalPhase,
    Resources,
    SchedulingRules,
    Snapshot,
    State,
    Utilisation,
)
from autoscaler.policy import Policy, ScaleDown, ScaleUp, Workers

NOW_S = 1_800_000_000
OLD_S = NOW_S - 7_200
MIB = 2**20
ROOM = Resources(cpu_millicores=1900, memory_bytes=1500 * MIB, pods=110)
ZONES = ("us-east-1a", "us-east-1b")
DECISION_ID = "d1"
SERVER = Instance(
    instance_id="i-0aaa",
    state=InstanceState.RUNNING,
    instance_type="t3.medium",
    zone=ZONES[0],
    subnet_id="subnet-a",
    launched_at_s=OLD_S,
    managed=False,
    server=True,
    operation_id=None,
)
CONTEXT = LaunchContext(
    template_id="lt-1", template_version="7", subnet_zones=(("subnet-a", ZONES[0]), ("subnet-b", ZONES[1]))
)


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """A worker: its instance, its Node, the pods on it; None for what it has not."""

    instance: Instance | None
    node: Node | None
    pods: tuple[Pod, ...] = ()


def iid(number: int) -> str:
    return f"i-{number:03x}"


def instance(number: int, **changes: Any) -> Instance:
    """Running, ours, old; zones take turns."""
    return msgspec.structs.replace(
        Instance(
            instance_id=iid(number),
            state=InstanceState.RUNNING,
            instance_type="t3.small",
            zone=ZONES[number % 2],
            subnet_id="subnet-a",
            launched_at_s=OLD_S + number,
            managed=True,
            server=False,
            operation_id=None,
        ),
        **changes,
    )


def node(number: int, **changes: Any) -> Node:
    """Ready, schedulable, old."""
    zone = ZONES[number % 2]
    return msgspec.structs.replace(
        Node(
            name=f"worker-{iid(number)}",
            instance_id=iid(number),
            zone=zone,
            provider_id=f"aws:///{zone}/{iid(number)}",
            created_at_s=OLD_S + number,
            ready=True,
            unready_long=False,
            cordoned=False,
            control_plane=False,
            tainted=False,
            allocatable=ROOM,
            local_volumes=0,
            managed=True,
            labels=(
                ("k3s_autoscaler_managed", "true"),
                ("node_kubernetes_io_instance_type", "t3.small"),
                ("topology_kubernetes_io_zone", zone),
            ),
        ),
        **changes,
    )


def worker(number: int, *, pods: Sequence[Pod] = (), of: dict[str, Any] | None = None, **node_changes: Any) -> Machine:
    """A Ready worker of ours; `of` changes its instance, the other arguments its Node. The Node is no older."""
    if of is not None and "launched_at_s" in of:
        node_changes = {"created_at_s": of["launched_at_s"], **node_changes}
    its_node = node(number, **node_changes)
    held = tuple(msgspec.structs.replace(pod, node=its_node.name) for pod in pods)
    return Machine(instance=instance(number, **(of or {})), node=its_node, pods=held)


def static(number: int, *, pods: Sequence[Pod] = (), **node_changes: Any) -> Machine:
    """A Ready worker that is not ours and whose instance has no tag of the cluster."""
    changes = {
        "name": f"static-{number}",
        "managed": False,
        "labels": (("node_kubernetes_io_instance_type", "t3.small"),),
    }
    return msgspec.structs.replace(worker(number, pods=pods, **{**changes, **node_changes}), instance=None)


def bare(number: int, **changes: Any) -> Machine:
    """An instance without a Node."""
    return Machine(instance=instance(number, **changes), node=None)


def ghost(number: int, **changes: Any) -> Machine:
    """A Node without an instance."""
    return Machine(instance=None, node=node(number, **changes))


def pod(name: str, *, cpu: int = 900, memory_mib: int = 100, **changes: Any) -> Pod:
    """A pod of the Deployment `shop/web`."""
    return msgspec.structs.replace(
        Pod(
            namespace="shop",
            name=name,
            uid=name,
            node="",
            owner_kind="ReplicaSet",
            owner_name="web",
            priority_class="",
            requests=Resources(cpu_millicores=cpu, memory_bytes=memory_mib * MIB, pods=1),
        ),
        **changes,
    )


def waiting(name: str, *, for_s: int = 15, cpu: int = 900, memory_mib: int = 100, **changes: Any) -> Pod:
    """A pod that the scheduler found no node for, since `for_s`."""
    return pod(name, cpu=cpu, memory_mib=memory_mib, unschedulable_since_s=NOW_S - for_s, **changes)


def waiting_pods(count: int, *, for_s: int = 15, cpu: int = 900) -> list[Pod]:
    return [waiting(f"w{number}", for_s=for_s, cpu=cpu) for number in range(count)]


def full(number: int, **node_changes: Any) -> Machine:
    """A worker without any CPU to give."""
    return worker(number, pods=[pod(f"full-{number}", cpu=ROOM.cpu_millicores)], **node_changes)


def daemon(name: str, *, cpu: int = 100) -> Pod:
    return pod(name, cpu=cpu, memory_mib=10, owner_kind="DaemonSet", owner_name="agent", namespace="kube-system")


def use(*, cpu: float | None = 0.1, memory: float | None = 0.1, high: float | None = None) -> tuple[Utilisation, ...]:
    """The same use all through both windows; `high`: CPU all through the grow window."""
    cpu_now = cpu if high is None else high
    return (
        Utilisation(resource="cpu", now_low=cpu_now, grow_min=cpu_now, shrink_max=cpu_now),
        Utilisation(resource="memory", now_low=memory, grow_min=memory, shrink_max=memory),
    )


def snapshot(
    workers: int | Sequence[Machine] = 2,
    pods: Sequence[Pod] = (),
    *,
    status: MetricsStatus = MetricsStatus.OK,
    known: bool | None = None,
    utilisation: tuple[Utilisation, ...] | None = None,
    servers: Sequence[Instance] = (SERVER,),
    commands: Sequence[tuple[str, CommandResult]] = (),
    at_s: int = NOW_S,
    gated: int = 0,
    looked_up: frozenset[str] = frozenset(),
    unlisted: tuple[Instance, ...] = (),
    rules: SchedulingRules | None = None,
) -> Snapshot:
    """What one look saw. A number of workers: that many, Ready and full."""
    machines = [full(n + 1) for n in range(workers)] if isinstance(workers, int) else list(workers)
    on_nodes = tuple(pod for machine in machines for pod in machine.pods)
    instances = tuple(m.instance for m in machines if m.instance is not None)
    there = status is not MetricsStatus.UNAVAILABLE
    cluster_known = there if known is None else known
    return Snapshot(
        taken_at_s=at_s,
        metrics_at_s=at_s if there else None,
        metrics_status=status,
        metrics_problems=() if status is MetricsStatus.OK else ("something is missing",),
        cluster_known=cluster_known,
        nodes=tuple(holding(m.node, m.pods) for m in machines if m.node is not None) if there else (),
        pods=(*on_nodes, *pods) if there else (),
        gated_pods=gated,
        utilisation=(use() if utilisation is None else utilisation) if there else (),
        instances=(*servers, *instances),
        looked_up=looked_up,
        unlisted=unlisted,
        commands=tuple(commands),
        rooms_known=cluster_known,
        daemons=daemons_of(on_nodes) if there else (),
        pods_of=frozenset(m.node.name for m in machines if m.node is not None) if there else frozenset(),
        scheduling_rules=rules or SchedulingRules(answered_at_s=at_s - 86_400),
        rules_problem="" if rules is not None else "no server was asked",
    )


def holding(its_node: Node, pods: Sequence[Pod]) -> Node:
    """The Node with what its pods ask for, as a look at the rooms tells it; all through the window, unless it says."""
    requested = sum((pod.requests for pod in pods), start=Resources())
    movable = sum(1 for pod in pods if pod.owner_kind not in {"DaemonSet", "Node"})
    most = its_node.requested_most or msgspec.structs.replace(requested, pods=movable)
    return msgspec.structs.replace(its_node, requested=requested, movable=movable, requested_most=most)


def daemons_of(pods: Sequence[Pod]) -> tuple[DaemonSet, ...]:
    """What the DaemonSets among the pods' owners ask of a worker."""
    asked = sorted(
        (pod.namespace, pod.owner_name, pod.requests.cpu_millicores, pod.requests.memory_bytes)
        for pod in pods
        if pod.owner_kind == "DaemonSet"
    )
    largest = {
        (namespace, name): Resources(cpu_millicores=cpu, memory_bytes=memory, pods=1)
        for namespace, name, cpu, memory in asked
    }
    return tuple(DaemonSet(namespace=key[0], name=key[1], requests=requests) for key, requests in largest.items())


def policy(
    *,
    low: int = 2,
    high: int = 10,
    types: tuple[str, ...] = ("t3.small",),
    max_step: int | None = None,
    down: ScaleDown | None = None,
    **changes: Any,
) -> Policy:
    return msgspec.structs.replace(
        Policy(
            version=1,
            workers=Workers(min=low, max=high, instance_types=types),
            scale_up=ScaleUp(max_step=max_step),
            scale_down=down if down is not None else ScaleDown(),
        ),
        **changes,
    )


def launch(
    operation_id: str = "l1",
    *,
    count: int = 1,
    ids: Sequence[int] = (),
    finished: Sequence[int] = (),
    landed: bool | None = None,
    age_s: int = 30,
    zone: str = ZONES[0],
    **changes: Any,
) -> LaunchOperation:
    """An open launch; landed where its instances are known."""
    has_landed = bool(ids or finished) if landed is None else landed
    return msgspec.structs.replace(
        LaunchOperation(
            operation_id=operation_id,
            created_at_s=NOW_S - age_s,
            reason="pods_unschedulable",
            request=LaunchRequest(
                client_token=operation_id,
                template_id="lt-1",
                template_version="7",
                count=count,
                overrides=(LaunchOverride(instance_type="t3.small", subnet_id="subnet-a", zone=zone),),
                tags=(),
            ),
            instance_ids=tuple(iid(n) for n in ids),
            finished_ids=tuple(iid(n) for n in finished),
            landed=has_landed,
            unidentified=0 if has_landed else count,
            sent_at_s=NOW_S - age_s,
        ),
        **changes,
    )


def removal(
    number: int,
    phase: RemovalPhase = RemovalPhase.DRAINING,
    *,
    operation_id: str = "r1",
    age_s: int = 30,
    sent: bool = True,
    **changes: Any,
) -> RemovalOperation:
    """An open removal of `worker(number)`."""
    return msgspec.structs.replace(
        RemovalOperation(
            operation_id=operation_id,
            created_at_s=NOW_S - age_s,
            reason="low_utilisation",
            instance_id=iid(number),
            node_name=f"worker-{iid(number)}",
            provider_id=f"aws:///{ZONES[number % 2]}/{iid(number)}",
            phase=phase,
            phase_since_s=NOW_S - age_s,
            fence=3,
            not_after_s=NOW_S - age_s + 120,
            command=CommandRef(command_id="c1", server_id=SERVER.instance_id, sent_at_s=NOW_S - age_s)
            if sent
            else None,
        ),
        **changes,
    )


NONE_FOUND = Found(count=0)


def inspection(**changes: Any) -> Inspection:
    """What a server says of the Node of `worker(1)`: NotReady, with three pods and nothing that stays."""
    return msgspec.structs.replace(
        Inspection(
            node="worker-i-001",
            uid="u",
            created_at_s=NOW_S - 7200,
            ready=False,
            ready_since_s=NOW_S - 400,
            cordon=Cordon.NONE,
            operation="",
            fence=0,
            taints=(),
            local_volumes=NONE_FOUND,
            bare_pods=NONE_FOUND,
            critical_pods=NONE_FOUND,
            do_not_evict_pods=NONE_FOUND,
            movable_pods=3,
            ending_pods=0,
        ),
        **changes,
    )


def told(outcome: CommandOutcome, *, operation_id: str = "r1", **fields: Any) -> tuple[tuple[str, CommandResult]]:
    """What came back of the command that a removal waits for."""
    return ((operation_id, CommandResult(outcome=outcome, **fields)),)


def notice(number: int, kind: str = "interruption", **changes: Any) -> Notice:
    return msgspec.structs.replace(Notice(kind=kind, subject=iid(number), received_at_s=NOW_S - 1), **changes)


def decided(
    seen: Snapshot, state: State | None = None, its_policy: Policy | None = None, *, now_s: int | None = None
) -> Decision:
    """The decision on what was seen, at the time it was seen."""
    return decide(
        seen,
        state if state is not None else State(fence=9),
        its_policy if its_policy is not None else policy(),
        now_s=seen.taken_at_s if now_s is None else now_s,
        decision_id=DECISION_ID,
    )


def planned(
    decision: Decision, seen: Snapshot, its_policy: Policy | None = None, *, context: LaunchContext = CONTEXT
) -> LaunchPlan:
    """The launches that the decision's growth becomes."""
    assert decision.growth is not None
    return plan_launch(
        decision.growth,
        context,
        seen,
        decision.state,
        its_policy if its_policy is not None else policy(),
        cluster_id="sim",
        now_s=seen.taken_at_s,
        decision_id=DECISION_ID,
    )


def opened(seen: Snapshot, state: State | None = None, its_policy: Policy | None = None) -> Decision:
    """The decision once its growth became operations, as reconcile does it."""
    decision = decided(seen, state, its_policy)
    if decision.growth is None:
        return decision
    plan = planned(decision, seen, its_policy)
    return with_plan(decision, plan)
