"""One look at the world: both reads at once, parsed and held against each other."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from autoscaler.model import (
    ALIVE,
    CLUSTER_TAG,
    UNKNOWN_COMMAND_RULE,
    CommandOutcome,
    CommandRef,
    CommandResult,
    Instance,
    MetricsStatus,
    Node,
    RemovalPhase,
    Sample,
    Snapshot,
    State,
)
from autoscaler.observe.instances import look_up, parse_instances
from autoscaler.observe.nodes import parse_nodes, parse_utilisation
from autoscaler.observe.pods import parse_unbound
from autoscaler.observe.presence import prove
from autoscaler.observe.query import sight_query
from autoscaler.observe.requested import INIT_REQUESTS, OVERHEAD
from autoscaler.observe.samples import sort_samples
from autoscaler.observe.unshown import labels_shown, owners_unshown, volumes_shown
from autoscaler.policy import Policy
from autoscaler.ports import Background, CommandsUnavailable, Fleet, Metrics, MetricsUnavailable, NodeCommands

SSM_SETTLE_S: Final = 60
"""SSM may not know a command for some seconds after it accepted it: only then is 'unknown' believed."""


def observe(
    metrics: Metrics,
    fleet: Fleet,
    commands: NodeCommands,
    background: Background,
    *,
    state: State,
    cluster_id: str,
    policy: Policy,
    now_s: int,
    with_owners: bool = False,
) -> Snapshot:
    """Ask Prometheus and EC2 at once, then for the result of each command that an open removal waits for.

    `with_owners`: ask when the last owner of pods came, too.
    EC2 is asked once more, by id, where an operation names a machine that the cluster's tag does not list.

    Raises FleetUnavailable. A Prometheus that cannot be asked is an observation: `metrics_status` says so.
    """
    answered = background.start(lambda: _ask(metrics, sight_query(policy, with_owners=with_owners)))
    rows = fleet.describe()
    answer = answered()
    results = tuple(
        (removal.operation_id, command_result(commands, removal.command, now_s))
        for removal in state.removals
        if removal.command is not None
    )
    snapshot = assemble(
        answer,
        rows,
        results,
        state=state,
        cluster_id=cluster_id,
        policy=policy,
        now_s=now_s,
        with_owners=with_owners,
    )
    return look_up(fleet, snapshot, _named_in(state), cluster_id)


def _named_in(state: State) -> tuple[str, ...]:
    """Instances whose end, or whose silence, a decision may rest on: what is not listed has to be asked for."""
    leaving = (r.instance_id for r in state.removals if r.phase is not RemovalPhase.DELETING)
    servers = (r.command.server_id for r in state.removals if r.command is not None)
    return (*leaving, *servers)


def assemble(
    answer: Sequence[Sample] | MetricsUnavailable,
    rows: Sequence[Mapping[str, Any]],
    commands: tuple[tuple[str, CommandResult | None], ...],
    *,
    state: State,
    cluster_id: str,
    policy: Policy,
    now_s: int,
    with_owners: bool = False,
) -> Snapshot:
    """Parse raw answers into a Snapshot. Pure. Raises FleetUnavailable for rows that cannot be read."""
    instances = parse_instances(rows, cluster_id)
    known_commands = tuple((operation_id, result) for operation_id, result in commands if result is not None)
    answered = None if isinstance(answer, MetricsUnavailable) else sort_samples(answer)
    if answered is None:
        why = str(answer) if isinstance(answer, MetricsUnavailable) else "Prometheus answered with an empty vector"
        return Snapshot(
            taken_at_s=now_s,
            metrics_at_s=None,
            metrics_status=MetricsStatus.UNAVAILABLE,
            metrics_problems=(why,),
            cluster_known=False,
            nodes=(),
            pods=(),
            gated_pods=0,
            utilisation=(),
            instances=instances,
            commands=known_commands,
        )
    nodes = parse_nodes(answered, policy, volumes_shown=volumes_shown(answered), labels_shown=labels_shown(answered))
    pods, pod_problems = parse_unbound(answered)
    proofs = prove(answered, nodes, pods, instances, policy, now_s=now_s)
    unshown = (*proofs.unshown, *owners_unshown(answered)) if with_owners else proofs.unshown
    cluster_problems = (*_another_world(instances, nodes, state, policy, now_s), *proofs.cluster, *pod_problems)
    problems = (
        *cluster_problems,
        *proofs.other,
        *_instances_without_nodes(instances, nodes, state),
        *_shared_instances(nodes),
    )
    return Snapshot(
        taken_at_s=now_s,
        metrics_at_s=int(answered.at_s),
        metrics_status=MetricsStatus.PARTIAL if problems else MetricsStatus.OK,
        metrics_problems=problems,
        cluster_known=not cluster_problems,
        absence_proven=proofs.absence,
        nodes=nodes,
        pods=pods,
        gated_pods=len(answered.of("pod_gated")),
        utilisation=parse_utilisation(answered, policy),
        instances=instances,
        commands=known_commands,
        unshown=unshown,
        shows_init=answered.one("shown", of=INIT_REQUESTS) is not None,
        shows_overhead=answered.one("shown", of=OVERHEAD) is not None,
        youngest_owner_at_s=_whole(answered.one("owner_youngest")),
    )


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)


def _another_world(
    instances: Sequence[Instance], nodes: Sequence[Node], state: State, policy: Policy, now_s: int
) -> tuple[str, ...]:
    """Metrics in which no instance of this cluster has a Node are of another one, however whole they are.

    A cluster without settled workers of ours is told by its server's Node, or a tagged static one's; only Nodes that
    are on EC2 and all unknown speak against it.
    """
    seen = {node.instance_id for node in nodes if node.instance_id is not None}
    settled = [
        i for i in _joined(instances, state) if i.managed and now_s - i.launched_at_s > policy.workers.join_timeout_s
    ]
    if any(instance.instance_id in seen for instance in instances):
        return ()
    if settled:
        return (
            f"the metrics may be another cluster's: none of our {len(settled)} joined workers "
            f"({settled[0].instance_id}) has a Node in them; see PROMETHEUS_URL, and metrics.matchers of the policy",
        )
    if seen:
        return (
            f"the metrics may be another cluster's: no instance with the tag {CLUSTER_TAG} of this cluster has a Node "
            f"in them, and {min(seen)} has one; see PROMETHEUS_URL and metrics.matchers of the policy, or tag "
            "the server and the static workers",
        )
    return ()


def _instances_without_nodes(instances: Sequence[Instance], nodes: Sequence[Node], state: State) -> tuple[str, ...]:
    """Running workers of ours that have joined must have Nodes; one that has none hides its pods from us.

    'Has joined' is what no open launch is still waiting for; workers that are being removed may be gone already.
    """
    seen = {node.instance_id for node in nodes}
    return tuple(
        f"instance {i.instance_id} has joined but metrics show no Node of it"
        for i in _joined(instances, state)
        if i.managed and i.instance_id not in seen
    )


def _joined(instances: Sequence[Instance], state: State) -> tuple[Instance, ...]:
    """Running instances that no open launch waits for and no removal is ending."""
    waited_for = {instance_id for launch in state.launches for instance_id in launch.instance_ids}
    waited_for |= {removal.instance_id for removal in state.removals}
    open_launches = {launch.operation_id for launch in state.launches}
    return tuple(
        i
        for i in instances
        if i.state in ALIVE and i.instance_id not in waited_for and i.operation_id not in open_launches
    )


def _shared_instances(nodes: Sequence[Node]) -> tuple[str, ...]:
    """A renamed machine leaves its old Node behind: which of the two holds which pods cannot be told."""
    counts = Counter(node.instance_id for node in nodes if node.instance_id is not None)
    return tuple(f"{n} Nodes claim instance {instance_id}" for instance_id, n in counts.items() if n > 1)


def _ask(metrics: Metrics, promql: str) -> Sequence[Sample] | MetricsUnavailable:
    try:
        return metrics.query(promql)
    except MetricsUnavailable as error:
        return error


def command_result(commands: NodeCommands, command: CommandRef, now_s: int) -> CommandResult | None:
    """What is known of a command; None when it cannot be asked now: unknown is neither success nor failure."""
    try:
        result = commands.result(command.command_id, command.server_id)
    except CommandsUnavailable:
        return None
    if result.rule == UNKNOWN_COMMAND_RULE and now_s - command.sent_at_s < SSM_SETTLE_S:
        return CommandResult(outcome=CommandOutcome.RUNNING)
    return result
