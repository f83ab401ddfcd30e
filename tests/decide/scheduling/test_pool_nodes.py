"""What a new worker of a pool is to the scheduler: what the pool states, what its workers show, what others lend."""

from typing import Any

import pytest

from autoscaler.decide.fleet import view_fleet
from autoscaler.decide.scheduling.machines import UNKNOWN_TAINT, Machines
from autoscaler.model import Resources, SchedulingRules, SeenType, State
from autoscaler.model.rules import Effect, NodeSpec, Taint
from tests.decide.builders import NOW_S, Machine, snapshot, worker
from tests.decide.capacity.test_pools import pools

GENERAL = "{name: general, instance_types: [t3.small], labels: {tier: web}}"
GPU = (
    "{name: gpu, instance_types: [g4dn.xlarge, g5.xlarge], labels: {team: ml}, "
    'taints: ["nvidia.com/gpu=true:NoSchedule", "soft=x:PreferNoSchedule"]}'
)
POLICY = pools(GENERAL, GPU)
OWN = Taint(key="nvidia.com/gpu", value="true", effect=Effect.NO_SCHEDULE)
AGENT = Taint(key="example.com/agent", effect=Effect.NO_EXECUTE)


def of(pool: str, number: int, *, told: dict[str, Any] | None = None, age_s: int = 7_200, **changes: Any) -> Any:
    """A Ready worker of the pool, and its Node as a server told it; `told` is None where none did."""
    kind = "g4dn.xlarge" if pool == "gpu" else "t3.small"
    machine = worker(number, of={"pool": pool, "instance_type": kind, "launched_at_s": NOW_S - age_s}, **changes)
    assert machine.node is not None
    spec = None
    if told is not None:
        labels = {"k3s-autoscaler/pool": pool, "node.kubernetes.io/instance-type": kind, **told.get("labels", {})}
        spec = NodeSpec(
            name=machine.node.name,
            labels=tuple(sorted(labels.items())),
            taints=told.get("taints", ()),
            allocatable=tuple(sorted({"cpu": 3900, "memory": 2**33, "pods": 110, **told.get("has", {})}.items())),
        )
    return machine, spec


def machines(*rows: Any, answered_at_s: int = NOW_S) -> Machines:
    seen: list[Machine] = [machine for machine, _ in rows]
    rules = SchedulingRules(answered_at_s=answered_at_s, nodes=tuple(spec for _, spec in rows if spec is not None))
    shown = snapshot(seen, rules=rules)
    return Machines(shown, view_fleet(shown, State()), State(), POLICY)


def new(made: Machines, pool: str, kind: str = "g4dn.xlarge") -> NodeSpec:
    return made.new(next(one for one in POLICY.pools if one.name == pool), kind).node


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        pytest.param((), {OWN}, id="nobody is there: the pool's own hard ones"),
        pytest.param((of("general", 1, told={}),), {OWN}, id="others have none of them"),
        pytest.param(
            (of("general", 1, told={"taints": (AGENT,)}, tainted=True, taint_keys=("example.com/agent",)),),
            {OWN, AGENT},
            id="what all others have that their pool does not state",
        ),
        pytest.param(
            (of("gpu", 1, told={"taints": (OWN,)}, tainted=True, taint_keys=("nvidia.com/gpu",)),),
            {OWN},
            id="its workers bear it out",
        ),
        pytest.param((of("gpu", 1, told={}),), set(), id="somebody takes it off"),
        pytest.param(
            (of("gpu", 1, told={"taints": (AGENT, OWN)}, tainted=True, taint_keys=("nvidia.com/gpu",)),),
            {OWN},
            id="one that it had when a server told of it was taken off since",
        ),
        pytest.param(
            (of("gpu", 1, tainted=True, taint_keys=("nvidia.com/gpu",)),), {OWN}, id="no server told of it yet"
        ),
    ],
)
def test_taints_of_a_new_worker(rows: tuple[Any, ...], expected: set[Taint]) -> None:
    assert set(new(machines(*rows), "gpu").taints) == expected


def test_a_pools_taints_are_lent_to_no_other_pool() -> None:
    made = machines(of("gpu", 1, told={"taints": (OWN,)}, tainted=True, taint_keys=("nvidia.com/gpu",)))
    assert new(made, "general", "t3.small").taints == ()


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (("nvidia.com/gpu",), (OWN,)),
        (("nvidia.com/gpu", "example.com/held"), (OWN, UNKNOWN_TAINT)),
        ((), (UNKNOWN_TAINT,)),
    ],
)
def test_a_worker_that_no_server_told_of_has_its_pools_taint_where_no_other_is_shown(
    keys: tuple[str, ...], expected: tuple[Taint, ...]
) -> None:
    machine, _ = of("gpu", 1, tainted=True, taint_keys=keys)
    made = machines((machine, None))
    [there] = view_fleet(snapshot([machine]), State()).workers
    assert made.existing(machine.node, there, cordoned=False).taints == expected


def test_labels_of_a_new_worker() -> None:
    made = machines(of("general", 1, told={"labels": {"tier": "web", "site": "north", "kubernetes.io/arch": "amd64"}}))
    labels = dict(new(made, "gpu").labels)
    assert labels["k3s-autoscaler/pool"] == "gpu"
    assert labels["team"] == "ml"
    assert labels["site"] == "north", "what all of ours have, whatever their pool"
    assert "tier" not in labels, "which is the other pool's"
    assert labels["node.kubernetes.io/instance-type"] == "g4dn.xlarge"


def test_what_the_policy_states_by_now_is_what_a_new_worker_gets() -> None:
    made = machines(of("gpu", 1, told={"labels": {"team": "search"}, "has": {"nvidia.com/gpu": 1}}))
    assert dict(new(made, "gpu").labels)["team"] == "ml"


@pytest.mark.parametrize(
    ("age_s", "told", "answered_at_s", "expected"),
    [
        pytest.param(7_200, {"has": {"nvidia.com/gpu": 1}}, NOW_S, 1, id="told of its GPU"),
        pytest.param(7_200, {}, NOW_S, 0, id="told without one, long after it joined"),
        pytest.param(60, {}, NOW_S, 1, id="its device plugin may be starting"),
        pytest.param(7_200, {}, NOW_S - 7_100, 1, id="the answer is from then"),
        pytest.param(7_200, None, NOW_S, 1, id="no server told of it"),
    ],
)
def test_gpus_of_workers_that_are_there_and_of_new_ones(
    age_s: int, told: dict[str, Any] | None, answered_at_s: int, expected: int
) -> None:
    row = of("gpu", 1, told=told, age_s=age_s)
    made = machines(row, answered_at_s=answered_at_s)
    [there] = view_fleet(snapshot([row[0]]), State()).workers
    assert dict(made.existing(row[0].node, there, cordoned=False).allocatable).get("nvidia.com/gpu", 0) == expected
    assert dict(new(made, "gpu").allocatable).get("nvidia.com/gpu", 0) == expected
    assert dict(new(made, "general", "t3.small").allocatable).get("nvidia.com/gpu", 0) == 0


def test_what_is_remembered_of_a_type_lends_no_pools_label_to_another() -> None:
    seen = SeenType(
        instance_type="t3.small",
        allocatable=Resources(cpu_millicores=1900, memory_bytes=2**30, pods=110),
        labels=(("site", "north"), ("team", "ml")),
    )
    nobody, state = snapshot(0), State(seen_types=(seen,))
    made = Machines(nobody, view_fleet(nobody, state), state, POLICY)
    labels = dict(new(made, "general", "t3.small").labels)
    assert (labels["site"], labels.get("team"), labels["tier"]) == ("north", None, "web")
