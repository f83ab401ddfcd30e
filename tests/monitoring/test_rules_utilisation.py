"""How busy the machines are: formulas, whose machine it is, and the bounds where some are not measured."""

from collections.abc import Mapping, Sequence

import pytest

from autoscaler.metrics_policy import MetricsPolicy
from autoscaler.policy import Policy
from tests.monitoring.cluster import KSM, exporter, node, target
from tests.monitoring.promtool import Case, Cases, Vector, asked, every, recorded, rounded
from tests.monitoring.scrape import series_text

pytestmark = pytest.mark.real_programs

# A sample each 10 s: a CPU that is idle all the time gains 10 s between two of them.
STEP_S, AT_S = 10, 110
ALWAYS = "{}+0x12"
UP = target(KSM, "1+0x12")
IDLE, HALF, BUSY = "0+10x12", "0+5x12", "0+0x12"
# Where it matters when a sample comes, one each 2 s.
FINE = "{}+0x60"
FINE_UP = target(KSM, "1+0x60")


def machine(
    instance: str, cpu0: str = HALF, cpu1: str = HALF, *, available_gib: float = 3, nodename: str = "nobody"
) -> dict[str, str]:
    return exporter(
        instance, idle=(cpu0, cpu1), available_gib=every(13, available_gib), nodename=nodename, up=every(13, 1)
    )


def case(name: str, series: Mapping[str, str], expected: Sequence[Vector]) -> Case:
    return Case(name, {**UP, **series}, expected, interval_s=STEP_S)


def use(name: str, cpu: float, memory: float = 0.25) -> dict[str, float]:
    return {f'{{node="{name}",resource="cpu"}}': cpu, f'{{node="{name}",resource="memory"}}': memory}


def bounds(*, cpu: tuple[float, float], memory: tuple[float, float]) -> dict[str, float]:
    return {
        f'{{bound="{bound}",resource="{resource}"}}': value
        for resource, pair in (("cpu", cpu), ("memory", memory))
        for bound, value in zip(("low", "high"), pair, strict=True)
    }


# ------------------------------------------------------------------------------------------------------------- formulas


def _other_modes(instance: str) -> dict[str, str]:
    here = {"job": "node-exporter", "instance": instance}
    return {
        series_text("node_cpu_seconds_total", {"cpu": cpu, "mode": mode, **here}): values
        for cpu in ("0", "1")
        for mode, values in (("user", "0+5x12"), ("system", "0+5x12"), ("iowait", "0+0x12"), ("steal", "0+0x12"))
    }


# The other modes are shown and do not count: an average over them would show a full machine as a seventh.
FORMULAS = tuple(
    case(
        f"CPU is what is not idle: {used}, {cpus}",
        {
            **node("a", ALWAYS, ip="10.0.1.5"),
            **machine("10.0.1.5:9100", *cpus),
            **_other_modes("10.0.1.5:9100"),
        },
        [rounded(AT_S, "node_utilisation", use("a", used))],
    )
    for cpus, used in (
        ((IDLE, IDLE), 0),
        ((BUSY, BUSY), 1),
        ((HALF, HALF), 0.5),
        ((IDLE, BUSY), 0.5),
        ((HALF, BUSY), 0.75),
    )
)

# ------------------------------------------------------------------------------------------------------ whose machine

NAME = "worker-i-0a1"
EC2 = "ip-10-0-1-23.eu-central-1.compute.internal"
DUAL_STACK = {"10.0.1.23": "InternalIP", "2a05:d014:1:2::21": "InternalIP", NAME: "Hostname"}


def _of_node(
    name: str, instance: str, ip: str = "10.0.1.23", nodename: str = "nobody", addresses: dict[str, str] | None = None
) -> Case:
    """The machine belongs to the worker, although another Node lies beside."""
    series = {
        **node(NAME, ALWAYS, ip=ip, addresses=addresses),
        **node("other", ALWAYS, ip="10.0.1.99", addresses=None if addresses else {}),
        **machine(instance, nodename=nodename),
    }
    return case(f"whose: {name}", series, [rounded(AT_S, "node_utilisation", use(NAME, 0.5))])


WHOSE = (
    _of_node("IPv4", "10.0.1.23:9100"),
    _of_node("without a port", "10.0.1.23"),
    _of_node("IPv6", "[2a05:d014:1:2::23]:9100", "2a05:d014:1:2::23"),
    _of_node("IPv6 alone", "[2a05:d014::21]:9100", "2a05:d014::21", addresses={"2a05:d014::21": "InternalIP"}),
    # kube_node_info keeps one of the two, the last: the IPv6 one. node-exporter answers on either.
    _of_node("dual-stack by IPv4", "10.0.1.23:9100", "2a05:d014:1:2::21", addresses=DUAL_STACK),
    _of_node("dual-stack by IPv6", "[2a05:d014:1:2::21]:9100", "2a05:d014:1:2::21", addresses=DUAL_STACK),
    # An allow-list of one's own may hide the addresses: kube_node_info's has to do.
    _of_node("no addresses shown", "10.0.1.23:9100", addresses={}),
    # kube-prometheus-stack's common relabelling.
    _of_node("instance is the Node's name", NAME),
    _of_node("instance is the Node's name, on a port", f"{NAME}:9100"),
    _of_node("the machine's name is the Node's", "127.0.0.1:40123", nodename=NAME),
    _of_node("the machine's name is the Node's, which has no address", "10.0.1.23:9100", "", NAME),
    _of_node("the machine's name is the Node's host name", "localhost:9100", nodename=EC2,
             addresses={"10.0.1.23": "InternalIP", EC2: "Hostname"}),
    _of_node("EC2's private DNS name", f"{EC2}:9100", nodename=EC2),
    _of_node("EC2's private DNS name of us-east-1", "ip-10-0-1-23.ec2.internal:9100"),
    _of_node("the address comes before the machine's name", "10.0.1.23:9100", nodename="other"),
)  # fmt: skip
# The Node of the old machine lingers: the youngest has the address, and the rule does not fail on two.
YOUNGEST = tuple(
    case(
        f"a dead Node still has what a new machine got: {instance}",
        {
            **node("ghost", ALWAYS, ip="10.0.1.23", ready="0+0x12", created="100+0x12", addresses=addresses),
            **node("new", ALWAYS, ip="10.0.1.23", created="900+0x12", addresses=addresses),
            **machine(instance, nodename=EC2),
        },
        [rounded(AT_S, "node_utilisation", use("new", 0.5))],
    )
    for instance, addresses in (
        ("10.0.1.23:9100", None),
        ("10.0.1.23", {}),
        (f"{EC2}:9100", None),
        ("localhost:9100", {EC2: "Hostname"}),
    )
)
NOBODY = case(
    "a machine that is no Node is nobody's",
    {**node("a", ALWAYS, ip="10.0.1.5"), **machine("10.0.1.77:9100", BUSY, BUSY, nodename="bastion")},
    [
        recorded(AT_S, "node_utilisation", {}),
        asked(AT_S, "node_unmeasured", {'{node="a",resource="cpu"}': 2, '{node="a",resource="memory"}': 4 * 2**30}),
    ],
)
TWO_EXPORTERS = case(
    "two exporters on one machine count once, the busier",
    {
        **node("a", ALWAYS, ip="10.0.1.5"),
        **machine("10.0.1.5:9100", HALF, HALF),
        **machine("10.0.1.5:9101", BUSY, BUSY),
    },
    [rounded(AT_S, "node_utilisation", use("a", 1))],
)

# --------------------------------------------------------------------------------------------------------- not measured

GONE = Case(
    "a machine that stopped answering is not measured, although its counters are still in the rate's window",
    {
        **FINE_UP,
        **node("a", FINE, ip="10.0.1.5"),
        **exporter(
            "10.0.1.5:9100", idle=("0+1x40 stale", "0+1x40 stale"), available_gib="3+0x40 stale", up="1+0x40 0+0x20"
        ),
    },
    [
        rounded(80, "node_utilisation", use("a", 0.5)),
        recorded(86, "node_utilisation", {}),
        recorded(86, "workers_utilisation", bounds(cpu=(0, 1), memory=(0, 1))),
    ],
)
MEMORY = {'{node="a",resource="memory"}': 0.25}
# It joins idle at 40 s. A rate over what there is would call it busy, and a fleet that grows would grow on.
NEW = Case(
    "a new machine is not measured before its counters fill the window",
    {
        **FINE_UP,
        **node("a", FINE, ip="10.0.1.5"),
        **exporter(
            "10.0.1.5:9100", idle=("_x20 100+2x60", "_x20 100+2x60"), available_gib="_x20 3+0x60", up="_x20 1+0x60"
        ),
    },
    [
        rounded(44, "node_utilisation", MEMORY),
        rounded(98, "node_utilisation", MEMORY),
        rounded(98, "workers_utilisation", bounds(cpu=(0, 1), memory=(0.25, 0.25))),
        asked(98, "node_unmeasured", {'{node="a",resource="cpu"}': 2}),
        rounded(102, "node_utilisation", use("a", 0)),
        asked(102, "node_unmeasured", {}),
    ],
)
FAILED_SCRAPE = Case(
    "one failed scrape does not unmeasure a machine a window later",
    {
        **FINE_UP,
        **node("a", FINE, ip="10.0.1.5"),
        **exporter(
            "10.0.1.5:9100",
            idle=("0+1x20 stale 22+1x40", "0+1x20 stale 22+1x40"),
            available_gib="3+0x60",
            up="1+0x20 0 1+0x40",
        ),
    },
    [rounded(at_s, "node_utilisation", use("a", 0.5)) for at_s in (80, 100, 102, 104, 110)],
    policy=Policy(version=1, metrics=MetricsPolicy(utilisation_interval_s=2)),
)

# ---------------------------------------------------------------------------------------------------------- the workers

# Two CPUs half used and six idle: (1 + 0) / 8. Memory is equal: (1/4 + 3/4) / 2.
WEIGHTED = case(
    "weighted by what each worker gives",
    {
        **node("small", ALWAYS, ip="10.0.1.5", cpu=2),
        **node("large", ALWAYS, ip="10.0.1.6", cpu=6),
        **machine("10.0.1.5:9100", HALF, HALF, available_gib=3),
        **machine("10.0.1.6:9100", IDLE, IDLE, available_gib=1),
    },
    [rounded(AT_S, "workers_utilisation", bounds(cpu=(0.125, 0.125), memory=(0.5, 0.5)))],
)
# Low: (0.5 x 2 + 0) / 8; high: (0.5 x 2 + 6) / 8.
UNMEASURED = case(
    "an unmeasured worker counts as idle below and as full above, and is named",
    {
        **node("seen", ALWAYS, ip="10.0.1.5"),
        **node("unseen", ALWAYS, ip="10.0.1.6", cpu=6),
        **machine("10.0.1.5:9100", HALF, HALF),
    },
    [
        rounded(AT_S, "workers_utilisation", bounds(cpu=(0.125, 0.875), memory=(0.125, 0.625))),
        asked(
            AT_S,
            "node_unmeasured",
            {'{node="unseen",resource="cpu"}': 6, '{node="unseen",resource="memory"}': 4 * 2**30},
        ),
        asked(AT_S, "counted", {'{of="node_unmeasured"}': 2}, of="node_unmeasured"),
    ],
)
# None of the busy others changes the picture, whatever keeps pods off them; nor are they unmeasured.
TAKERS = case(
    "only workers that take pods count",
    {
        **node("worker", ALWAYS, ip="10.0.1.5"),
        **machine("10.0.1.5:9100", HALF, HALF),
        **node("server", ALWAYS, ip="10.0.1.4", server=True),
        **machine("10.0.1.4:9100", BUSY, BUSY),
        **node("silent", ALWAYS, ip="10.0.1.6", ready="0+0x12"),
        **machine("10.0.1.6:9100", BUSY, BUSY),
        **node("cordoned", ALWAYS, ip="10.0.1.7", cordoned=1, taint="node.kubernetes.io/unschedulable"),
        **machine("10.0.1.7:9100", BUSY, BUSY),
        **node("tainted", ALWAYS, ip="10.0.1.8", taint="gpu"),
        **machine("10.0.1.8:9100", BUSY, BUSY),
        **node("tainted-unmeasured", ALWAYS, ip="10.0.1.9", taint="gpu"),
    },
    [
        rounded(AT_S, "workers_utilisation", bounds(cpu=(0.5, 0.5), memory=(0.25, 0.25))),
        asked(AT_S, "use", {'{resource="cpu"}': 0.5, '{resource="memory"}': 0.25}),
        asked(AT_S, "node_unmeasured", {}),
        asked(AT_S, "counted", {'{of="node_unmeasured"}': 0}, of="node_unmeasured"),
    ],
)
NO_WORKER = case(
    "absent where no worker takes pods",
    {
        **node("server", ALWAYS, ip="10.0.1.4", server=True),
        **node("silent", ALWAYS, ip="10.0.1.6", ready="0+0x12"),
        **machine("10.0.1.4:9100", BUSY, BUSY),
    },
    [recorded(AT_S, "workers_utilisation", {}), asked(AT_S, "use", {})],
)

CASES = Cases(
    *FORMULAS,
    *WHOSE,
    *YOUNGEST,
    NOBODY,
    TWO_EXPORTERS,
    GONE,
    NEW,
    FAILED_SCRAPE,
    WEIGHTED,
    UNMEASURED,
    TAKERS,
    NO_WORKER,
)


@CASES.each
def test_utilisation(case: str) -> None:
    CASES.check(case)
