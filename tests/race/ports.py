"""The ports of one look in a race: the real store, and a world of which every process has a copy but one evidence.

Prometheus and EC2 show the same need to everybody: each process makes the same scene from the same simulated cluster.
What a process does to EC2 and SSM goes into the evidence that all share, so that a repeated ClientToken is
replayed whoever sends it, and a later look sees the instances of an earlier one.
"""

import datetime as dt
import enum
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from autoscaler.aws.clock import SortableIds
from autoscaler.aws.sns import NoNotifier
from autoscaler.decide.decision import decide
from autoscaler.model import (
    CLUSTER_TAG,
    CommandOutcome,
    CommandResult,
    InstanceState,
    LaunchContext,
    LaunchRequest,
    LaunchResult,
    NodeCommand,
    Sample,
    SchedulingRules,
    State,
)
from autoscaler.observe.closer import look_closer
from autoscaler.observe.query import sight_query
from autoscaler.observe.snapshot import assemble
from autoscaler.policy import Policy
from autoscaler.ports import Conflict, FleetUnavailable, MetricsUnavailable, Ports, StateStore
from autoscaler.simulator.cluster import START_S, SimCluster
from autoscaler.simulator.wires import Inline, SimClock, SimTime
from autoscaler.simulator.world.told import scheduling_rules
from tests.race.evidence import Commanded, Entry, Evidence, Launched, Saved, Terminated, WriteLost, me
from tests.reconcile.conftest import deployment, make_one_superfluous

POLICY: Final = Policy(version=1)
INVOCATION_S: Final = 25.0
"""What is left of the Lambda's time when a look begins; a lease lasts for that and 10 s more."""


class Need(enum.StrEnum):
    """What everybody sees at once."""

    GROW = "grow"
    """A pod fits on no worker: one more is wanted."""
    SHRINK = "shrink"
    """A worker was not needed for long enough."""


class Stop(enum.StrEnum):
    """Where a process can be held, or killed."""

    WRITE = "before its first write"
    EFFECT = "with its intent saved, before the effect"
    ANSWER = "after the effect, before its answer is saved"


Reach = Callable[[Stop], None]
"""Called at each of them."""


class Scene(msgspec.Struct, frozen=True, kw_only=True):
    """What Prometheus and EC2 show at one virtual time."""

    now_s: float
    answers: tuple[tuple[str, tuple[Sample, ...]], ...]
    """By query: the look's, and those that a decision of it asks for."""
    rows: tuple[Mapping[str, Any], ...]
    context: LaunchContext
    rules: SchedulingRules


@functools.cache
def scene(need: Need, later_s: int) -> Scene:
    """The same for everybody, `later_s` after the need arose."""
    cluster = SimCluster(POLICY)
    if need is Need.GROW:
        cluster.apply(deployment("web", 5))
        cluster.run(15)
    else:
        make_one_superfluous(cluster)
    cluster.run(later_s)
    return Scene(
        now_s=cluster.now_s,
        answers=_answers(cluster),
        rows=tuple(cluster.ec2.describe()),
        context=cluster.ec2.launch_context(),
        rules=_told(cluster),
    )


def _answers(cluster: SimCluster) -> tuple[tuple[str, tuple[Sample, ...]], ...]:
    """What a look asks there, and its answers: one invocation is enough to hear it all."""
    answers: dict[str, tuple[Sample, ...]] = {}

    class Heard:
        def query(self, promql: str, *, timeout_s: float | None = None) -> Sequence[Sample]:
            del timeout_s
            answers[promql] = tuple(cluster.recorder.query(promql, cluster.now_s))
            return answers[promql]

    now_s, state = int(cluster.now_s), State()
    seen = assemble(
        Heard().query(sight_query(POLICY)),
        cluster.ec2.describe(),
        (),
        state=state,
        cluster_id=cluster.cluster_id,
        policy=POLICY,
        now_s=now_s,
    )
    seen = msgspec.structs.replace(seen, scheduling_rules=_told(cluster))
    while asks := decide(seen, state, POLICY, now_s=now_s, decision_id="heard").asks:
        assert not asks.rules_of, "a race is about writes: no server is to be asked in it"
        seen = look_closer(Heard(), seen, asks, POLICY)
    return tuple(answers.items())


def _told(cluster: SimCluster) -> SchedulingRules:
    """What a server told before: nobody asks one in the race."""
    return msgspec.structs.replace(scheduling_rules(cluster.world.state), answered_at_s=int(cluster.now_s))


def ports_of(
    seen: Scene, cluster_id: str, store: StateStore, evidence: Evidence, reach: Reach, *, listed: bool
) -> Ports:
    """Ports for one look. `listed`: DescribeInstances shows what this round launched; else it lags behind."""
    return Ports(
        metrics=SceneMetrics(seen),
        fleet=SharedFleet(seen, cluster_id, evidence, reach, listed=listed),
        commands=SharedCommands(evidence, reach),
        store=WatchedStore(store, evidence, reach, seen.rules),
        notifier=NoNotifier(),
        background=Inline(),
        clock=SimClock(SimTime(seen.now_s), INVOCATION_S),
        ids=SortableIds(),
        calls=dict,
    )


class SceneMetrics:
    """Prometheus, which has an answer to what looks at this scene ask."""

    def __init__(self, seen: Scene) -> None:
        self._answers = dict(seen.answers)

    def query(self, promql: str, *, timeout_s: float | None = None) -> Sequence[Sample]:
        del timeout_s
        if promql not in self._answers:
            raise MetricsUnavailable(f"this scene has no answer to {promql}")
        return self._answers[promql]


class WatchedStore:
    """The store under test; every write that it takes or refuses is evidence."""

    def __init__(self, store: StateStore, evidence: Evidence, reach: Reach, told: SchedulingRules) -> None:
        self._store = store
        self._told = told
        self._evidence = evidence
        self._reach = reach
        self._owner: str | None = None

    def load(self) -> tuple[State, int]:
        state, version = self._store.load()
        self._owner = _owner(state)
        return state, version

    def save(self, state: State, expected_version: int) -> int:
        self._reach(Stop.WRITE)
        try:
            version = self._store.save(state, expected_version)
        except Conflict:
            self._evidence.add(lambda _: WriteLost(pid=me()))
            raise
        took_lease = _owner(state) not in {None, self._owner}
        self._owner = _owner(state)
        self._evidence.add(lambda _: Saved(pid=me(), version=version, fence=state.fence, took_lease=took_lease))
        return version

    def rules(self) -> SchedulingRules | None:
        """What a server told long ago: that nobody has to ask is the same for everybody."""
        return self._told

    def keep_rules(self, rules: SchedulingRules) -> None:
        self._store.keep_rules(rules)

    def record(self, decided_at_s: int, decision_id: str, document: Mapping[str, Any]) -> None:
        self._store.record(decided_at_s, decision_id, document)


def _owner(state: State) -> str | None:
    return state.lease.owner if state.lease is not None else None


class SharedFleet:
    """EC2, which all processes share."""

    def __init__(self, seen: Scene, cluster_id: str, evidence: Evidence, reach: Reach, *, listed: bool) -> None:
        self._seen = seen
        self._cluster_id = cluster_id
        self._evidence = evidence
        self._reach = reach
        self._listed = listed

    def describe(self) -> Sequence[Mapping[str, Any]]:
        rows = [_tagged(row, self._cluster_id) for row in self._seen.rows]
        if self._listed:
            launches = [entry for entry in self._evidence.read() if isinstance(entry, Launched) and not entry.replayed]
            rows += [_row(launch, instance_id) for launch in launches for instance_id in launch.instance_ids]
        return rows

    def look_up(self, instance_ids: Sequence[str]) -> Sequence[Mapping[str, Any]]:
        return [row for row in self.describe() if row["InstanceId"] in instance_ids]

    def launch_context(self) -> LaunchContext:
        return self._seen.context

    def launch(self, request: LaunchRequest) -> LaunchResult:
        self._reach(Stop.EFFECT)
        launched = self._evidence.add(lambda before: _create_fleet(before, request))
        self._reach(Stop.ANSWER)
        return LaunchResult(instance_ids=launched.instance_ids)

    def terminate(self, instance_id: str) -> None:
        self._evidence.add(lambda _: Terminated(pid=me(), instance_id=instance_id))


def _create_fleet(before: tuple[Entry, ...], request: LaunchRequest) -> Launched:
    """EC2's side: a repeated token gets the first answer. Raises FleetUnavailable with IdempotentParameterMismatch."""
    launches = [entry for entry in before if isinstance(entry, Launched)]
    known = next((one for one in launches if one.request.client_token == request.client_token), None)
    if known is None:
        first = sum(len(one.instance_ids) for one in launches if not one.replayed)
        ids = tuple(f"i-0cafe{first + place:012x}" for place in range(request.count))
        return Launched(pid=me(), request=request, instance_ids=ids, replayed=False)
    if known.request != request:
        raise FleetUnavailable("The token was used with other parameters.", code="IdempotentParameterMismatch")
    return Launched(pid=me(), request=request, instance_ids=known.instance_ids, replayed=True)


def _tagged(row: Mapping[str, Any], cluster_id: str) -> Mapping[str, Any]:
    """The same machine as one of this cluster."""
    others = [tag for tag in row["Tags"] if tag["Key"] != CLUSTER_TAG]
    return {**row, "Tags": [*others, {"Key": CLUSTER_TAG, "Value": cluster_id}]}


def _row(launch: Launched, instance_id: str) -> Mapping[str, Any]:
    """As boto3's DescribeInstances writes an instance that just began."""
    override = launch.request.overrides[0]
    return {
        "InstanceId": instance_id,
        "State": {"Code": 0, "Name": InstanceState.PENDING.value},
        "PrivateDnsName": "",
        "InstanceType": override.instance_type,
        "LaunchTime": dt.datetime.fromtimestamp(int(START_S), tz=dt.UTC),
        "Placement": {"AvailabilityZone": override.zone},
        "SubnetId": override.subnet_id,
        "Tags": [{"Key": key, "Value": value} for key, value in launch.request.tags],
    }


class SharedCommands:
    """SSM, which all processes share. A command runs longer than the round."""

    def __init__(self, evidence: Evidence, reach: Reach) -> None:
        self._evidence = evidence
        self._reach = reach

    def send(self, command: NodeCommand, server_id: str) -> str:
        del server_id
        self._reach(Stop.EFFECT)
        sent = self._evidence.add(lambda before: _send_command(before, command))
        self._reach(Stop.ANSWER)
        return sent.command_id

    def result(self, command_id: str, server_id: str) -> CommandResult:
        del command_id, server_id
        return CommandResult(outcome=CommandOutcome.RUNNING)


def _send_command(before: tuple[Entry, ...], command: NodeCommand) -> Commanded:
    number = sum(isinstance(entry, Commanded) for entry in before) + 1
    return Commanded(
        pid=me(),
        verb=command.verb,
        operation_id=command.operation_id,
        instance_id=command.provider_id.rpartition("/")[2],
        command_id=f"command-{number}",
    )
