"""What pods asked of each Node in a window: zeros where nothing runs, gaps where nothing is shown."""

import pytest

from autoscaler.observe.query import rooms_query
from autoscaler.policy import Policy, ScaleDown
from tests.monitoring.cluster import GIB, KSM, OTHER_KSM, node, of_pod, pod, target
from tests.monitoring.promtool import Case, Cases, asked, recorded

pytestmark = pytest.mark.real_programs

# A sample each 10 s, and rules evaluated as often. No sample lies at the edge of the window, where versions differ.
STEP_S, AT_S = 10, 110
ALWAYS = "{}+0x12"
EARLY = "{}+0x6 stale"
"""Until 60 s; the window begins at 45 s."""
UP = target(KSM, "1+0x12")
ROOMS = rooms_query(Policy(version=1, scale_down=ScaleDown(window_s=65)), ["a"], with_init=False, with_overhead=False)


def of(name: str, *, cpu: float, memory: float = 0, pods: int) -> dict[str, float]:
    sizes = {f'{{node="{name}",resource="cpu"}}': cpu, f'{{node="{name}",resource="memory"}}': memory}
    return {**sizes, f'{{node="{name}"}}': pods}


def samples(name: str, count: int) -> dict[str, float]:
    return of(name, cpu=count, memory=count, pods=count)


def heavy(name: str, values: str) -> dict[str, str]:
    """A pod with an init container that asks more than its app, a sidecar, and overhead: 0.5 + 1 + 0.25 + 0.125."""
    asks = pod(name, values, on="a", cpu=0.5)
    for container, cores, policy in (("migrate", 1.5, ""), ("proxy", 0.25, "Always")):
        init = of_pod("kube_pod_init_container_resource_requests", name, container=container, resource="cpu", node="a")
        asks[init] = values.format(cores)
        asks[of_pod("kube_pod_init_container_info", name, container=container, restart_policy=policy)] = values.format(
            1
        )
    asks[of_pod("kube_pod_overhead_cpu_cores", name)] = values.format(0.125)
    asks[of_pod("kube_pod_overhead_memory_bytes", name)] = values.format(GIB)
    return asks


CASES = Cases(
    Case(
        "pods that left are in the window, daemons ask and do not move, and a Node without pods says 0",
        {
            **UP,
            **node("a", ALWAYS),
            **node("empty", ALWAYS),
            **pod("stays", ALWAYS, on="a", cpu=0.25),
            **pod("left", EARLY, on="a", cpu=0.5),
            **pod("agent", ALWAYS, on="a", cpu=0.125, kind="DaemonSet"),
            **pod("static", ALWAYS, on="a", cpu=0.125, kind="Node"),
            **pod("done", ALWAYS, on="a", phase="Succeeded", cpu=4),
            **pod("waits", ALWAYS, phase="Pending", cpu=4),
        },
        [
            recorded(AT_S, "node_requested", {**of("a", cpu=0.5, pods=1), **of("empty", cpu=0, pods=0)}),
            asked(
                AT_S,
                "requested_max",
                {**of("a", cpu=1, pods=2), **of("empty", cpu=0, pods=0)},
                query=ROOMS,
            ),
            asked(AT_S, "requested_count", {**samples("a", 7), **samples("empty", 7)}, query=ROOMS),
            asked(AT_S, "requested_at_once", {'{resource="cpu"}': 1, '{resource="memory"}': 0}, query=ROOMS),
        ],
        interval_s=STEP_S,
    ),
    Case(
        "effective requests, whatever the look's own query would leave out",
        {**UP, **node("a", ALWAYS), **heavy("h", ALWAYS)},
        [recorded(AT_S, "node_requested", of("a", cpu=1.875, memory=GIB, pods=1))],
        interval_s=STEP_S,
    ),
    Case(
        "what two targets show is one thing",
        {
            **UP,
            **node("a", ALWAYS),
            **node("a", ALWAYS, told_by=OTHER_KSM),
            **pod("p", ALWAYS, on="a"),
            **pod("p", ALWAYS, on="a", told_by=OTHER_KSM),
        },
        [recorded(AT_S, "node_requested", of("a", cpu=0.5, pods=1))],
        interval_s=STEP_S,
    ),
    Case(
        "a Node that is not shown for a while has a gap, not a zero",
        {**UP, **node("a", EARLY), **pod("p", EARLY, on="a")},
        [
            recorded(AT_S, "node_requested", {}),
            asked(AT_S, "requested_max", of("a", cpu=0.5, pods=1), query=ROOMS),
            asked(AT_S, "requested_count", samples("a", 2), query=ROOMS),
            asked(AT_S, "requested_at_once", {'{resource="cpu"}': 0.5, '{resource="memory"}': 0}, query=ROOMS),
        ],
        interval_s=STEP_S,
    ),
)


@CASES.each
def test_requested(case: str) -> None:
    CASES.check(case)
