"""First-fit-decreasing into rooms, and what a new worker offers."""

import pytest

from autoscaler.decide.capacity.catalogue import UnknownInstanceType, check_instance_types, nominal_resources
from autoscaler.decide.fleet import view_fleet
from autoscaler.decide.scheduling.packing import pack, pack_new
from autoscaler.decide.scheduling.rooms import Room, free_room, new_room
from autoscaler.model import Pod, Resources, State
from autoscaler.policy import Policy, Size, Workers
from tests.decide.builders import MIB, ROOM, Machine, daemon, full, pod, policy, snapshot, worker

TYPE = "node_kubernetes_io_instance_type"
ZONE = "topology_kubernetes_io_zone"


def room(
    cpu: int = 1900, *, key: str = "r", memory_mib: int = 1500, pods: int = 110, labels: dict[str, str] | None = None
) -> Room:
    free = Resources(cpu_millicores=cpu, memory_bytes=memory_mib * MIB, pods=pods)
    return Room(key=key, free=free, labels=frozenset((labels or {}).items()))


@pytest.mark.parametrize(
    ("pods", "rooms_needed"),
    [
        pytest.param([], 0, id="nothing needs nothing"),
        pytest.param([pod("a"), pod("b")], 1, id="two of 0.9 CPU share a worker of 1.9"),
        pytest.param([pod("a"), pod("b"), pod("c")], 2, id="a third needs another"),
        pytest.param([pod("s", cpu=300), pod("m", cpu=1000), pod("l", cpu=1600)], 2, id="large ones first: no third"),
        pytest.param([pod("a", cpu=0, memory_mib=1000), pod("b", cpu=0, memory_mib=1000)], 2, id="memory counts"),
        pytest.param(
            [pod("a", cpu=0, memory_mib=0), pod("b", cpu=0, memory_mib=0)], 1, id="asking nothing needs a place"
        ),
    ],
)
def test_new_workers_for_pods(pods: list[Pod], rooms_needed: int) -> None:
    count, packed = pack_new(pods, room(), at_most=100)
    assert (count, packed.left) == (rooms_needed, ())


def test_the_number_of_pods_is_a_limit_too() -> None:
    count, packed = pack_new([pod(f"p{n}", cpu=0) for n in range(5)], room(pods=2), at_most=100)
    assert (count, packed.left) == (3, ())


def test_at_most_so_many_workers_are_opened() -> None:
    count, packed = pack_new([pod(f"p{n}") for n in range(10)], room(), at_most=2)
    assert count == 2
    assert len(packed.left) == 6


def test_what_fits_in_no_room_opens_none() -> None:
    count, packed = pack_new([pod("giant", cpu=12_000)], room(), at_most=5)
    assert count == 0
    assert [p.name for p in packed.left] == ["giant"]


def test_packing_does_not_depend_on_the_order_of_the_pods() -> None:
    pods = [pod(f"p{n}", cpu=100 * (n % 7) + 50) for n in range(20)]
    one = pack(pods, [room(key="x"), room(key="y")])
    other = pack(list(reversed(pods)), [room(key="x"), room(key="y")])
    assert one == other


@pytest.mark.parametrize(
    ("selector", "labels", "fits"),
    [
        pytest.param((), {}, True, id="no selector fits anywhere"),
        pytest.param((("pool", "gpu"),), {"pool": "gpu"}, True, id="the label is there"),
        pytest.param((("pool", "gpu"),), {"pool": "web"}, False, id="another value"),
        pytest.param((("pool", "gpu"),), {}, False, id="no such label"),
        pytest.param((("pool", "gpu"), ("disk", "ssd")), {"pool": "gpu"}, False, id="every label is asked for"),
    ],
)
def test_node_selectors(selector: tuple[tuple[str, str], ...], labels: dict[str, str], fits: bool) -> None:
    assert room(labels=labels).accepts(pod("p", node_selector=selector)) is fits


def fleet_room(machines: list[Machine], instance_type: str = "t3.small", its_policy: Policy | None = None) -> Room:
    seen = snapshot(machines)
    chosen = its_policy or policy()
    return new_room(instance_type, "new", view_fleet(seen, State()), seen.daemons, chosen)


def test_a_new_worker_offers_what_the_smallest_seen_of_its_type_offers() -> None:
    small = Resources(cpu_millicores=1700, memory_bytes=1600 * MIB, pods=50)
    offered = fleet_room([worker(1), worker(2, allocatable=small)]).free
    assert offered == Resources(cpu_millicores=1700, memory_bytes=1500 * MIB, pods=50)


def test_a_type_that_nobody_has_seen_offers_what_its_reservations_leave() -> None:
    chosen = policy(types=("m5.large",))
    assert fleet_room([worker(1)], "m5.large", chosen).free == nominal_resources("m5.large", chosen)
    left_mib = 8192 * 0.92 - 300 - 8192 * 0.92 / 20 - 100
    expected = Resources(cpu_millicores=2000 - 110, memory_bytes=int(left_mib * MIB), pods=110)
    assert nominal_resources("m5.large", chosen) == expected


def test_reservations_stop_growing_and_never_leave_less_than_nothing() -> None:
    sizes = {
        "x9.tiny": Size(cpu_millicores=50, memory_mib=256),
        "x9.huge": Size(cpu_millicores=64_000, memory_mib=1 << 20),
    }
    sized = Policy(version=1, workers=Workers(instance_types=("x9.tiny", "x9.huge"), sizes=sizes))
    assert nominal_resources("x9.tiny", sized) == Resources(cpu_millicores=0, memory_bytes=0, pods=110)
    huge = nominal_resources("x9.huge", sized)
    assert huge.cpu_millicores == 64_000 - 320
    assert huge.memory_bytes == int(((1 << 20) * 0.92 - 300 - 16 * 1024 / 20 - 100) * MIB)


def test_the_policy_names_the_size_of_an_unknown_type() -> None:
    sized = Policy(
        version=1,
        workers=Workers(instance_types=("x9.huge",), sizes={"x9.huge": Size(cpu_millicores=1000, memory_mib=1000)}),
    )
    check_instance_types(sized)
    assert nominal_resources("x9.huge", sized).cpu_millicores == 1000 - 95
    with pytest.raises(UnknownInstanceType, match=r"x9\.huge.*workers\.sizes"):
        check_instance_types(policy(types=("x9.huge",)))


def test_each_daemon_takes_its_place_once_and_the_largest_of_it_counts() -> None:
    offered = fleet_room([worker(1, pods=[daemon("a", cpu=100)]), worker(2, pods=[daemon("b", cpu=150)])]).free
    assert offered == ROOM - Resources(cpu_millicores=150, memory_bytes=10 * MIB, pods=1)


@pytest.mark.parametrize(
    ("instance_type", "selector", "fits"),
    [
        pytest.param("t3.small", ("kubernetes_io_os", "linux"), True, id="every worker runs Linux"),
        pytest.param("t3.small", ("kubernetes_io_os", "windows"), False, id="and nothing else"),
        pytest.param("t3.small", ("kubernetes_io_arch", "amd64"), True, id="t3 is amd64"),
        pytest.param("t3.small", ("kubernetes_io_arch", "arm64"), False, id="t3 is not arm64"),
        pytest.param("t4g.small", ("kubernetes_io_arch", "arm64"), True, id="t4g is Graviton"),
        pytest.param("t3.small", (TYPE, "t3.small"), True, id="its own type"),
        pytest.param("t3.small", (TYPE, "m5.large"), False, id="another type"),
        pytest.param("t3.small", ("k3s_autoscaler_managed", "true"), True, id="ours"),
        pytest.param("t3.small", (ZONE, "us-east-1a"), True, id="it may come to any zone"),
        pytest.param("t3.small", ("pool", "gpu"), False, id="a pool that it is not in"),
    ],
)
def test_which_selectors_a_new_worker_satisfies(instance_type: str, selector: tuple[str, str], fits: bool) -> None:
    offered = fleet_room([], instance_type, policy(types=(instance_type,)))
    assert offered.accepts(pod("p", node_selector=(selector,))) is fits


def test_an_existing_worker_is_linux_although_no_allow_list_shows_it() -> None:
    """Else a pod with that common selector would be thought to fit on new workers only, again and again."""
    [one] = view_fleet(snapshot([worker(1)]), State()).workers
    room_of_it = free_room(one)
    assert room_of_it is not None
    assert room_of_it.accepts(pod("p", node_selector=(("kubernetes_io_os", "linux"), ("kubernetes_io_arch", "amd64"))))


def test_free_room_is_what_the_pods_leave_and_unknown_without_allocatable() -> None:
    [busy] = view_fleet(snapshot([full(1)]), State()).workers
    free = free_room(busy)
    assert free is not None
    assert free.free.cpu_millicores == 0
    [unknown] = view_fleet(snapshot([worker(1, allocatable=None)]), State()).workers
    assert free_room(unknown) is None
