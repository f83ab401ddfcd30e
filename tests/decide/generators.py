"""Every snapshot, state and policy that there can be, drawn: unknown values, missing families, all phases."""

from typing import Any

import msgspec
from hypothesis import strategies as st

from autoscaler.model import (
    ON_DEMAND,
    SPOT,
    Backoff,
    CommandOutcome,
    CommandResult,
    HeldWorker,
    InstanceState,
    JoinFailures,
    LaunchContext,
    Lease,
    MetricsStatus,
    Mode,
    ModeSetting,
    Notice,
    OwnerLaunches,
    Pod,
    Pool,
    RemovalPhase,
    Removed,
    Replacement,
    Snapshot,
    SpotReturn,
    State,
    ZoneJoins,
)
from autoscaler.policy import BlindGrowth, Cost, Drain, Interruption, Policy, Repair, Rotation, ScaleDown
from autoscaler.spot import Spot
from autoscaler.windows import Headroom, PodShape
from tests.decide.builders import (
    NOW_S,
    SERVER,
    ZONES,
    Machine,
    bare,
    ghost,
    iid,
    launch,
    node,
    pod,
    policy,
    removal,
    snapshot,
    static,
    use,
    waiting,
    worker,
)
from tests.decide.drawing import Draw, among
from tests.decide.drawn_numbers import FORECASTS, SIGNALS, asides, histories, kept_forecasts, seen_signals

HEADROOMS = (
    *(Headroom(),) * 4,
    Headroom(workers=1),
    Headroom(percent=30),
    Headroom(workers=2, pod=PodShape(cpu_millicores=900, memory_mib=100, count=3)),
    Headroom(pod=PodShape(cpu_millicores=12_000, memory_mib=1)),
)

maybe = among(True, False, None)
ratios = st.one_of(st.none(), st.floats(min_value=0, max_value=1))
ages = among(-5, 0, 59, 400, 601, 1799, 1800, 9000, NOW_S)
"""Seconds; a clock may be behind what it looks at, and a time may never have been set."""
owners = among("ReplicaSet", "ReplicaSet", "StatefulSet", "DaemonSet", "Node", "")
spot_prices = st.sampled_from([{}, {"t3.small": 0.007}])
join_failures = st.none() | st.builds(
    JoinFailures,
    failures=st.integers(1, 40),
    failed_at_s=among(NOW_S - 5000, NOW_S - 100, NOW_S),
    until_s=among(NOW_S - 1, NOW_S, NOW_S + 600),
    after_ready=st.booleans(),
)
replacements = st.none() | st.builds(
    Replacement,
    instance_id=among(*(iid(n) for n in range(1, 6))),
    reason=among("rotation", "cheaper"),
    cause=among("max_age", "k3s_version", "cheaper"),
    why=st.just("it is old"),
    began_at_s=among(NOW_S - 9000, NOW_S - 400, NOW_S),
    launched_by=among("d0", "l1"),
    count=st.integers(1, 2),
    drains=st.booleans(),
)
spot_returns = st.none() | st.builds(
    SpotReturn,
    instance_id=among("", iid(1), iid(2)),
    decision_id=among("l1", "d0"),
    draining=st.booleans(),
    failures=st.integers(0, 40),
    until_s=among(0, NOW_S, NOW_S + 500),
)


@st.composite
def machines(draw: Draw, number: int) -> Machine:
    age_s = draw(ages)
    of: dict[str, Any] = {
        "launched_at_s": NOW_S - age_s,
        "state": draw(among(*[InstanceState.RUNNING] * 6, *InstanceState)),
        "managed": draw(among(True, True, True, False)),
        "operation_id": draw(among(None, "l1", "l2", "of-nobody")),
        "instance_type": draw(among("t3.small", "t3.small", "x9.unheard-of")),
        "market": draw(among(ON_DEMAND, ON_DEMAND, SPOT, "scheduled")),
    }
    of_node: dict[str, Any] = {
        "created_at_s": draw(among(NOW_S - age_s, NOW_S - age_s, None)),
        "ready": draw(among(True, True, True, False, None)),
        "unready_long": draw(maybe),
        "cordoned": draw(among(False, False, True, None)),
        "tainted": draw(st.booleans()),
        "local_volumes": draw(among(0, 0, 1, None)),
        "managed": draw(among(True, True, False, None)),
        "control_plane": draw(among(*[False] * 9, True)),
    }
    if draw(st.integers(0, 9)) == 0:
        of_node |= {"allocatable": None, "zone": None, "labels": ()}
    pods = [
        pod(
            f"p{number}-{n}",
            cpu=cpu,
            owner_kind=draw(owners),
            priority_class=draw(among("", "", "system-node-critical")),
            do_not_evict=draw(among(False, False, False, True)),
        )
        for n, cpu in enumerate(draw(st.lists(st.integers(0, 2500), max_size=2)))
    ]
    kind = draw(among(*["worker"] * 5, "bare", "ghost", "static", "nameless"))
    if kind == "worker":
        return worker(number, pods=pods, of=of, **of_node)
    if kind == "bare":
        return bare(number, **of)
    if kind == "nameless":
        return Machine(instance=None, node=node(number, **of_node, instance_id=None, provider_id=f"k3s://n{number}"))
    return ghost(number, **of_node) if kind == "ghost" else static(number, pods=pods, **of_node)


@st.composite
def waiters(draw: Draw, number: int) -> Pod:
    zone = ("topology_kubernetes_io_zone", draw(among(*ZONES, "x")))
    found: Pod = waiting(
        f"w{number}",
        for_s=draw(among(-5, 0, 9, 10, 31, 500, 100_000)),
        cpu=draw(among(0, 100, 900, 1900, 12_000)),
        owner_name=draw(among("web", "api", "")),
        owner_kind=draw(owners),
        node_selector=draw(among((), (), (("pool", "gpu"),), (zone,))),
    )
    return found


@st.composite
def snapshots(draw: Draw) -> Snapshot:
    status = draw(among(*[MetricsStatus.OK] * 3, *MetricsStatus))
    results = [
        (
            f"r{n}",
            CommandResult(outcome=draw(among(*CommandOutcome)), rule=draw(among("", "late"))),
        )
        for n in draw(st.sets(st.integers(0, 3)))
    ]
    both = use(cpu=draw(ratios), memory=draw(ratios), high=draw(ratios))
    missing = draw(among(2, 2, 2, 2, 1, 0))
    used = tuple(
        msgspec.structs.replace(one, now_low=draw(ratios)) if draw(st.integers(0, 4)) == 0 else one
        for one in both[:missing]
    )
    seen = snapshot(
        [draw(machines(n)) for n in range(1, draw(st.integers(0, 8)) + 1)],
        [draw(waiters(n)) for n in range(draw(st.integers(0, 6)))],
        status=status,
        known=status is MetricsStatus.OK or (status is MetricsStatus.PARTIAL and draw(st.booleans())),
        utilisation=used,
        commands=results,
        servers=draw(among((SERVER,), (SERVER,), ())),
        gated=draw(among(0, 3)),
    )
    clock_s = draw(among(0, 0, 0, 7, -7))
    metrics_at_s = None if seen.metrics_at_s is None else seen.metrics_at_s + clock_s
    pods_of = frozenset(name for name in sorted(seen.pods_of) if draw(st.integers(0, 4)))
    seen = msgspec.structs.replace(seen, metrics_at_s=metrics_at_s, pods_of=pods_of)
    seen = msgspec.structs.replace(seen, signals=draw(seen_signals()), history=draw(histories()))
    return unseen_rooms(seen) if draw(st.integers(0, 9)) == 0 else seen


def unseen_rooms(seen: Snapshot) -> Snapshot:
    """The same before anybody looked closer."""
    nodes = tuple(msgspec.structs.replace(n, requested=None, movable=None, labels=()) for n in seen.nodes)
    pods = tuple(p for p in seen.pods if not p.node)
    return msgspec.structs.replace(seen, nodes=nodes, pods=pods, daemons=(), pods_of=frozenset(), rooms_known=False)


@st.composite
def states(draw: Draw) -> State:
    busy = draw(st.lists(st.integers(1, 9), unique=True, max_size=5))
    split = draw(st.integers(0, len(busy)))
    removals = tuple(
        removal(
            number,
            draw(among(*RemovalPhase)),
            operation_id=f"r{n}",
            age_s=draw(among(-5, 0, 130, 500, 2000)),
            sent=draw(st.booleans()),
            reclaim=draw(st.booleans()),
            attempts=draw(st.integers(0, 6)),
            node_name=draw(among(*[f"worker-{iid(number)}"] * 3, "")),
            absent_since_s=draw(among(None, None, NOW_S - 299, NOW_S - 300)),
        )
        for n, number in enumerate(busy[:split])
    )
    joining = busy[split:]
    launches = tuple(
        launch(
            f"l{n + 1}",
            count=2,
            ids=ids,
            landed=draw(st.booleans()),
            unidentified=draw(st.integers(0, 2)),
            age_s=draw(among(-5, 0, 301, 601)),
            sent_at_s=draw(among(None, NOW_S, NOW_S - 400)),
            for_owners=draw(among((), ("shop/ReplicaSet/web",))),
        )
        for n, ids in enumerate([joining[:2], joining[2:]])
        if ids or draw(st.booleans())
    )
    kinds = ("interruption", "retirement", "rebalance", "blind_alert", "orphan", "stopped")
    notices = tuple(
        Notice(
            kind=draw(among(*kinds)),
            subject=iid(n),
            received_at_s=NOW_S - draw(among(-5, 0, 400, 4000)),
            handled=draw(st.booleans()),
        )
        for n in draw(st.sets(st.integers(1, 9), max_size=3))
    )
    return State(
        fence=9,
        lease=draw(among(None, Lease(owner="x", expires_at_s=NOW_S + 5))),
        mode=draw(among(None, *(ModeSetting(mode=mode, set_at_s=NOW_S) for mode in Mode))),
        launches=launches,
        removals=removals,
        notices=notices,
        backoffs=tuple(
            Backoff(
                pool=Pool(instance_type="t3.small", zone=zone, market=draw(among(ON_DEMAND, SPOT))),
                error_code="InsufficientInstanceCapacity",
                until_s=NOW_S + draw(among(-1, 0, 500)),
                failures=3,
            )
            for zone in draw(st.sets(among(*ZONES)))
        ),
        held_workers=tuple(
            HeldWorker(node_name=f"worker-{iid(n)}", reason="x", until_s=NOW_S + 5)
            for n in draw(st.sets(st.integers(1, 4), max_size=2))
        ),
        removed=tuple(
            Removed(
                instance_id=iid(n),
                ended_at_s=NOW_S - draw(among(-5, 0, 299, 300, 4000)),
            )
            for n in draw(st.sets(st.integers(1, 9), max_size=2))
        ),
        owners=tuple(
            OwnerLaunches(
                owner=f"shop/ReplicaSet/{name}",
                launched_at_s=NOW_S - 100,
                zones=(ZONES[0],),
                unhelped=draw(st.integers(0, 40)),
                retry_at_s=NOW_S + draw(among(-5, 100)),
            )
            for name in draw(st.sets(among("web", "api")))
        ),
        join_failures=draw(join_failures),
        replacement=draw(replacements),
        zones=tuple(
            ZoneJoins(
                zone=zone,
                failures=draw(st.integers(0, 3)),
                since_s=NOW_S - 900,
                failed_at_s=NOW_S - 100,
                until_s=NOW_S + draw(among(-5, 0, 500)),
                joined_at_s=draw(among(None, NOW_S - 1000, NOW_S - 50)),
            )
            for zone in draw(st.sets(among(*ZONES, "x")))
        ),
        spot_return=draw(spot_returns),
        unlisted_workers=draw(among(None, 0, 0, 2)),
        signals_aside=draw(asides),
        forecast=draw(kept_forecasts),
        last_scale_up_s=draw(among(None, NOW_S - 10, NOW_S - 9000, NOW_S + 5)),
        last_scale_down_s=draw(among(None, NOW_S - 10, NOW_S - 9000)),
    )


@st.composite
def policies(draw: Draw) -> Policy:
    low = draw(st.integers(0, 5))
    drawn: Policy = policy(
        low=low,
        high=draw(st.integers(low, 12)),
        types=draw(among(("t3.small",), ("t3.small", "t3.xlarge"), ("t3.xlarge", "t3.small"))),
        max_step=draw(among(None, 1, 3)),
        down=ScaleDown(
            cool_down_s=draw(among(0, 600)),
            min_age_s=draw(among(0, 600)),
            max_empty_step=draw(among(1, 5)),
            budget=draw(among(1, 1, 0, 2, "50%")),
            replace_when_saves=draw(among(None, 0.1)),
            protected_namespaces=draw(among((), ("shop",))),
            movable=draw(among((), ("shop/web",))),
        ),
        rotation=Rotation(
            max_age_s=draw(among(None, None, 3600)),
            drift=draw(among((), ("image", "template"))),
        ),
        drain=Drain(force=draw(st.booleans())),
        repair=Repair(max_unhealthy_share=draw(among(0.01, 0.34, 1.0))),
        interruption=Interruption(grace_s=draw(among(0, 60))),
        blind_growth=BlindGrowth(step=draw(among(0, 1, 3))),
        headroom=draw(among(*HEADROOMS)),
        signals=draw(among(*SIGNALS)),
        forecast=draw(among(*FORECASTS)),
        cost=Cost(
            max_usd_per_hour=draw(among(None, None, 0.05, 0.2, 1.0)),
            other_usd_per_hour=draw(among(None, 0.02)),
            baseline_workers=draw(among(None, 5)),
            spot_usd_per_hour=draw(spot_prices),
        ),
        spot=Spot(return_after_s=draw(among(0, 1800)), return_min_types=draw(among(1, 3))),
    )
    workers = msgspec.structs.replace(
        drawn.workers,
        market=draw(among(ON_DEMAND, SPOT)),
        on_demand_base=draw(among(0, 1, 4)),
        on_demand_share=draw(among(0.0, 0.3, 1.0)),
    )
    return msgspec.structs.replace(drawn, workers=workers)


contexts = st.builds(
    LaunchContext,
    template_id=st.just("lt-1"),
    template_version=st.just("7"),
    subnet_zones=among(
        (), (("subnet-a", ZONES[0]),), (("subnet-a", ZONES[0]), ("subnet-b", ZONES[1]), ("subnet-c", ZONES[1]))
    ),
)
