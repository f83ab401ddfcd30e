"""A small cluster as kube-state-metrics and node-exporter would show it, in promtool's notation."""

from tests.monitoring.scrape import series_text

KSM = {"job": "kube-state-metrics", "instance": "10.0.1.20:8080"}
OTHER_KSM = {"job": "kube-state-metrics", "instance": "10.0.1.21:8080"}
GIB = 1024**3


def target(labels: dict[str, str], up: str) -> dict[str, str]:
    return {series_text("up", labels): up}


def node(name: str, values: str, *, ready: str | None = None, ip: str = "", server: bool = False, cpu: float = 2.0,
         created: str | None = None, told_by: dict[str, str] = KSM) -> dict[str, str]:  # fmt: skip
    """One Node; `values` is the pattern of its constant series (`{}+0x50`), `ready` that of its condition."""

    def one(metric: str, value: str, **labels: str) -> tuple[str, str]:
        return series_text(metric, {"node": name, **labels, **told_by}), value

    facts = [
        one("kube_node_info", values.format(1), provider_id=f"aws:///eu-central-1a/i-{name}", internal_ip=ip),
        one("kube_node_created", created or values.format(1000)),
        one("kube_node_status_condition", ready or values.format(1), condition="Ready", status="true"),
        one("kube_node_spec_unschedulable", values.format(0)),
        one("kube_node_status_allocatable", values.format(cpu), resource="cpu", unit="core"),
        one("kube_node_status_allocatable", values.format(4 * GIB), resource="memory", unit="byte"),
        one("kube_node_status_allocatable", values.format(110), resource="pods", unit="integer"),
    ]
    if server:
        facts.append(one("kube_node_role", values.format(1), role="control-plane"))
    return dict(facts)


def pod(name: str, values: str, *, on: str = "", phase: str = "Running", cpu: float = 0.5, waits: str | None = None,
        told_by: dict[str, str] = KSM) -> dict[str, str]:  # fmt: skip
    """One pod with one container; `waits` is the pattern of its series `unschedulable`."""

    def one(metric: str, value: str, **labels: str) -> tuple[str, str]:
        identity = {"namespace": "shop", "pod": name, "uid": f"uid-{name}"}
        return series_text(metric, {**identity, **labels, **told_by}), value

    facts = [
        one("kube_pod_info", values.format(1), node=on, created_by_kind="ReplicaSet", created_by_name="web"),
        one("kube_pod_created", values.format(500)),
        one("kube_pod_status_phase", values.format(1), phase=phase),
        one(
            "kube_pod_container_resource_requests",
            values.format(cpu),
            container="app",
            node=on,
            resource="cpu",
            unit="core",
        ),
    ]
    if waits is not None:
        facts.append(one("kube_pod_status_unschedulable", waits))
    return dict(facts)


def exporter(
    instance: str, *, idle: tuple[str, str], available_gib: str, nodename: str = "", up: str
) -> dict[str, str]:
    """One node-exporter of a machine with two CPUs and 4 GiB; `idle` are the counters of its two idle modes."""
    labels = {"job": "node-exporter", "instance": instance}

    def one(metric: str, value: str, **more: str) -> tuple[str, str]:
        return series_text(metric, {**more, **labels}), value

    return dict(
        [
            one("up", up),
            one("node_cpu_seconds_total", idle[0], cpu="0", mode="idle"),
            one("node_cpu_seconds_total", idle[1], cpu="1", mode="idle"),
            one("node_memory_MemTotal_bytes", "4+0x400"),
            one("node_memory_MemAvailable_bytes", available_gib),
            one("node_uname_info", "1+0x400", nodename=nodename or "nobody"),
        ]
    )
