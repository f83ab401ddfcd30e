"""The user's document to the letter, as a small controller of its own: thresholds, one worker a sweep, a cool-down.

Above 70 % CPU, or with a pod that is unschedulable for three minutes, one worker more; below 30 % for ten minutes and
nothing pending, the one with the oldest launch is drained within five minutes and terminated; two to ten workers; five
minutes of cool-down after each. It knows neither requests nor rules. It shares no code with what decides for us; the
simulator's EC2 and node commands are the same.
"""

from typing import Final

from autoscaler.backtest.service import SWEEP_S, used
from autoscaler.model import (
    CLUSTER_TAG,
    MANAGED_BY_TAG,
    MANAGED_BY_VALUE,
    CommandOutcome,
    CommandResult,
    InstanceState,
    LaunchOverride,
    LaunchRequest,
    NodeCommand,
    Verb,
)
from autoscaler.simulator.cluster import SimCluster
from autoscaler.simulator.world.world import SERVER

INSTANCE_TYPE: Final = "t3.small"
MIN: Final = 2
MAX: Final = 10
HIGH: Final = 0.70
LOW: Final = 0.30
LOW_FOR_S: Final = 600
PENDING_FOR_S: Final = 180
COOL_DOWN_S: Final = 300
DRAIN_S: Final = 300
CPU_OVER_S: Final = 60


class Thresholds:
    """Keeps a fleet as the document says (`autoscaler.backtest.service.Keeper`)."""

    def __init__(self, cluster: SimCluster) -> None:
        self._cluster = cluster
        self._next_sweep_s = cluster.now_s + SWEEP_S
        self._acted_at_s = cluster.now_s - COOL_DOWN_S
        self._low_since_s: float | None = None
        self._removal: _Removal | None = None
        self._numbers = 0

    def tick(self) -> None:
        """A sweep where one is due; a removal goes on in between."""
        if self._removal is not None and self._removal.over():
            self._removal = None
        if self._cluster.now_s >= self._next_sweep_s:
            self._next_sweep_s += SWEEP_S
            self._sweep()

    def due_s(self) -> float:
        """The next sweep; while a worker is being removed, at once."""
        return self._next_sweep_s if self._removal is None else self._cluster.now_s

    def _sweep(self) -> None:
        cluster, now_s = self._cluster, self._cluster.now_s
        cpu, _ = used(cluster, over_s=CPU_OVER_S)
        waited_s = [
            now_s - pod.unschedulable_since_s
            for pod in cluster.world.state.unbound.values()
            if pod.waits and pod.unschedulable_since_s is not None
        ]
        if cpu >= LOW or waited_s:
            self._low_since_s = None
        elif self._low_since_s is None:
            self._low_since_s = now_s
        if now_s - self._acted_at_s < COOL_DOWN_S or self._removal is not None:
            return
        workers = cluster.workers()
        if (cpu > HIGH or max(waited_s, default=0.0) >= PENDING_FOR_S) and len(workers) < MAX:
            self._grow()
        elif self._low_since_s is not None and now_s - self._low_since_s >= LOW_FOR_S and len(workers) > MIN:
            self._shrink(workers)

    def _grow(self) -> None:
        """One more, in the zone whose turn it is, or where EC2 still has one."""
        self._numbers += 1
        subnets = self._cluster.ec2.settings.subnet_zones
        turn = self._numbers % len(subnets)
        context = self._cluster.ec2.launch_context()
        request = LaunchRequest(
            client_token=f"thresholds-{self._numbers}",
            template_id=context.template_id,
            template_version=context.template_version,
            count=1,
            overrides=tuple(
                LaunchOverride(instance_type=INSTANCE_TYPE, subnet_id=subnet_id, zone=zone)
                for subnet_id, zone in (*subnets[turn:], *subnets[:turn])
            ),
            tags=((MANAGED_BY_TAG, MANAGED_BY_VALUE), (CLUSTER_TAG, self._cluster.cluster_id)),
        )
        if self._cluster.ec2.create_fleet(request).instance_ids:
            self._acted_at_s = self._cluster.now_s

    def _shrink(self, workers: list[str]) -> None:
        """The one with the oldest launch goes; whatever became of its drain, the next waits for the cool-down."""
        ec2 = self._cluster.ec2
        oldest = min(workers, key=lambda instance_id: (ec2.instances[instance_id].launched_at_s, instance_id))
        self._numbers += 1
        self._removal = _Removal(self._cluster, oldest, self._numbers)
        self._acted_at_s = self._cluster.now_s


class _Removal:
    """Drain, terminate, delete the Node."""

    def __init__(self, cluster: SimCluster, instance_id: str, number: int) -> None:
        self._cluster, self._instance_id, self._number = cluster, instance_id, number
        self._zone = cluster.ec2.instances[instance_id].zone
        self._drain = self._send(Verb.DRAIN)
        self._terminated = False

    def over(self) -> bool:
        """Go on as far as it goes; whether it is done, or given up because the drain failed."""
        ec2 = self._cluster.ec2
        if not self._terminated:
            outcome = self._result().outcome
            if outcome is CommandOutcome.SUCCEEDED:
                ec2.terminate(self._instance_id)
                self._terminated = True
            return outcome not in {CommandOutcome.SUCCEEDED, CommandOutcome.RUNNING}
        instance = ec2.instances.get(self._instance_id)
        if instance is None or instance.state(self._cluster.now_s) is InstanceState.TERMINATED:
            self._send(Verb.DELETE_NODE)
            return True
        return False

    def _result(self) -> CommandResult:
        return self._cluster.ssm.result(self._drain, SERVER.instance_id)

    def _send(self, verb: Verb) -> str:
        command = NodeCommand(
            verb=verb,
            node_name=f"worker-{self._instance_id}",
            provider_id=f"aws:///{self._zone}/{self._instance_id}",
            operation_id=f"thresholds-{self._number}",
            fence=self._number,
            not_after_s=int(self._cluster.now_s) + DRAIN_S,
            timeout_s=DRAIN_S,
        )
        return self._cluster.ssm.send(command, SERVER.instance_id)
