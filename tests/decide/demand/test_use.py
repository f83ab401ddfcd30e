"""What measured use asks for: over the workers that take pods, each weighed by its own size."""

from typing import Any

import msgspec
import pytest

from autoscaler.decide.demand.use import too_full_without, utilisation_signals
from autoscaler.decide.fleet import view_fleet
from autoscaler.model import Action, Resources, State
from autoscaler.policy_text import parse_policy
from tests.decide.builders import MIB, ROOM, Machine, decided, pod, policy, snapshot, static, use, worker

BIG = Resources(cpu_millicores=4 * ROOM.cpu_millicores, memory_bytes=4 * ROOM.memory_bytes, pods=110)
LARGE: dict[str, Any] = {"of": {"instance_type": "t3.xlarge"}, "allocatable": BIG}


def wants(machines: list[Machine], cpu: float) -> int | None:
    seen = snapshot(machines, utilisation=use(high=cpu))
    [signal] = [
        s
        for s in utilisation_signals(seen, view_fleet(seen, State()), State(), policy())
        if s.name == "cpu_utilisation"
    ]
    return signal.wants


@pytest.mark.parametrize(
    ("machines", "cpu", "wanted"),
    [
        pytest.param([worker(1), worker(2)], 0.70, None, id="at the threshold"),
        pytest.param([worker(1), worker(2)], 0.71, 3, id="just above: one more"),
        pytest.param([worker(1), worker(2)], 1.0, 3, id="2 x 1.0 / 0.7 = 2.86"),
        pytest.param([worker(n) for n in range(1, 8)], 1.0, 10, id="7 x 1.0 / 0.7 = 10"),
        pytest.param([worker(1, **LARGE)], 1.0, 3, id="a large one that is full: 4 / 0.7 - 4 = 1.7 small ones"),
        pytest.param([worker(1), worker(2, cordoned=True)], 1.0, 3, id="a cordoned one carries nothing of it: 1 / 0.7"),
        pytest.param([worker(1, cordoned=True)], 1.0, None, id="nobody takes pods"),
    ],
)
def test_growth_is_reckoned_in_new_workers_size(machines: list[Machine], cpu: float, wanted: int | None) -> None:
    assert wants(machines, cpu) == wanted


@pytest.mark.parametrize(
    ("machines", "memory", "goes"),
    [
        pytest.param([worker(1), worker(2, **LARGE)], 0.5, True, id="the small one of 1 + 4: 2.5 of 4 are used, 62 %"),
        pytest.param([worker(1, **LARGE), worker(2)], 0.5, False, id="the large one of 1 + 4: 2.5 do not fit in 1"),
        pytest.param([worker(1), worker(2, tainted=True)], 0.5, False, id="what takes no pods carries none of it"),
        pytest.param([worker(1), worker(2), worker(3)], 0.46, True, id="1.38 of 2: 69 %"),
        pytest.param([worker(1), worker(2), worker(3)], 0.47, False, id="1.41 of 2: 70.5 %"),
    ],
)
def test_what_leaves_is_judged_with_its_own_size(machines: list[Machine], memory: float, goes: bool) -> None:
    seen = snapshot(machines, utilisation=use(cpu=0.1, memory=memory))
    why = too_full_without(seen, view_fleet(seen, State()), {"i-001"}, policy())
    assert (why is None) is goes
    if why is not None:
        assert "use would be" in why


@pytest.mark.parametrize(
    ("machines", "used", "goes"),
    [
        pytest.param([worker(1), worker(2), worker(3)], 2280, True, id="2.28 of 3.8 cores: 60 %"),
        pytest.param([worker(1), worker(2), worker(3)], 2281, False, id="and above"),
        pytest.param(
            [worker(1), worker(2), worker(3), worker(4, tainted=True)],
            4180,
            True,
            id="what takes no pods may have used it",
        ),
        pytest.param(
            [worker(1), worker(2), worker(3), worker(4, tainted=True)], 4181, False, id="but no more than it has"
        ),
        pytest.param(
            [worker(1), worker(2), worker(3), worker(9, control_plane=True)], 2281, False, id="a server is none"
        ),
        pytest.param([worker(1), worker(2), worker(3)], 0, True, id="not known: the share alone counts"),
    ],
)
def test_what_cpu_use_came_to_counts_beside_the_share_that_it_was(
    machines: list[Machine], used: int, goes: bool
) -> None:
    """A share of more workers than there are now: each has 1.9 cores."""
    seen = msgspec.structs.replace(snapshot(machines, utilisation=use(cpu=0.1)), cpu_used_at_once_millicores=used)
    assert (too_full_without(seen, view_fleet(seen, State()), {"i-001"}, policy()) is None) is goes


def test_use_that_is_not_known_keeps_everybody() -> None:
    seen = snapshot([worker(1), worker(2)], utilisation=use(memory=None))
    assert too_full_without(seen, view_fleet(seen, State()), {"i-001"}, policy()) is not None


@pytest.mark.parametrize(
    ("taints", "changes", "goes"),
    [
        pytest.param(("work",), {}, True, id="all are of a pool with a taint"),
        pytest.param((), {}, False, id="all take any pod"),
        pytest.param(("work",), {"cordoned": True}, False, id="somebody cordoned one"),
        pytest.param(("node.kubernetes.io/disk-pressure", "work"), {}, False, id="Kubernetes taints them for a while"),
    ],
)
@pytest.mark.parametrize("when", ["low_use", "fits"])
def test_a_fleet_of_which_no_use_is_recorded_shrinks_by_requests(
    when: str, taints: tuple[str, ...], changes: dict[str, Any], *, goes: bool
) -> None:
    """Use is of the workers that take any pod: three idle ones of a pool with a taint stayed for good."""
    batch = '{name: batch, instance_types: [t3.small], taints: ["work=batch:NoSchedule"]}'
    text = f"version: 1\nscale_down: {{when: {when}}}\nworkers:\n  min: 1\n  pools:\n    - {batch}\n"
    its_policy = parse_policy(text)
    machines = [
        worker(n, of={"pool": "batch"}, tainted=bool(taints), taint_keys=taints, **(changes if n == 1 else {}))
        for n in (1, 2)
    ]
    busy = worker(3, of={"pool": "batch"}, tainted=bool(taints), taint_keys=taints, pods=[pod("p")])
    seen = snapshot([busy, *machines])
    made = decided(msgspec.structs.replace(seen, utilisation=()), its_policy=its_policy)
    assert (made.action is Action.SCALE_DOWN) is goes, made.message


def test_a_removal_among_mixed_sizes_never_calls_for_a_launch() -> None:
    """The load of the large ones does not vanish with one of them."""
    for memory in (0.1, 0.3, 0.5, 0.59):
        machines = [
            worker(1, pods=[pod("a", cpu=100)], **LARGE),
            worker(2, pods=[pod("b", cpu=100)]),
            worker(3, pods=[pod("c", cpu=100)]),
            static(4, pods=[pod("d", cpu=100)]),
        ]
        seen = snapshot(machines, utilisation=use(cpu=0.1, memory=memory))
        gone = {r.instance_id for r in decided(seen, its_policy=policy(low=1)).state.removals}
        left = [m for m in machines if m.instance is None or m.instance.instance_id not in gone]
        room = [m.node.allocatable.memory_bytes for m in left if m.node is not None and m.node.allocatable is not None]
        total = (4 + 3) * ROOM.memory_bytes
        spread = use(cpu=0.1, memory=memory * total / sum(room))
        after = decided(snapshot(left, utilisation=spread), its_policy=policy(low=1))
        assert after.growth is None
        assert gone or memory > 0.1, "it does shrink"


def test_the_smallest_seen_of_the_preferred_type_is_its_size() -> None:
    """EC2's own word for the type, without any label."""
    tiny = msgspec.structs.replace(ROOM, cpu_millicores=950, memory_bytes=700 * MIB)
    machines = [worker(1, allocatable=tiny, labels=()), worker(2, labels=())]
    assert wants(machines, 1.0) == 2 + 2, "2850 x 1.0 / 0.7 - 2850 = 1221 millicores, in workers of 950"
