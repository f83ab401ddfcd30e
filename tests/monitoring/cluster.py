"""A small cluster as kube-state-metrics and node-exporter would show it, in promtool's notation."""

from collections.abc import Mapping

from tests.monitoring.scrape import series_text

Labels = Mapping[str, str]

KSM: Labels = {"job": "kube-state-metrics", "instance": "10.0.1.20:8080"}
OTHER_KSM: Labels = {"job": "kube-state-metrics", "instance": "10.0.1.21:8080"}
GIB = 1024**3


def target(labels: Labels, up: str) -> dict[str, str]:
    return {series_text("up", labels): up}


def node(name: str, values: str, *, ready: str | None = None, ip: str = "", server: bool = False, cpu: float = 2.0,
         created: str | None = None, addresses: Mapping[str, str] | None = None, cordoned: int = 0, taint: str = "",
         machine: str = "", told_by: Labels = KSM) -> dict[str, str]:  # fmt: skip
    """One Node; `values` is the pattern of its constant series (`{}+0x50`), `ready` that of its condition.

    `ip` is kube_node_info's; `addresses` (type by address) are all that the Node has, by default that one and its name.
    """

    def one(metric: str, value: str, **labels: str) -> tuple[str, str]:
        return series_text(metric, {"node": name, **labels, **told_by}), value

    if addresses is None:
        addresses = {ip: "InternalIP", name: "Hostname"} if ip else {}
    provider, machine = f"aws:///eu-central-1a/i-{name}", machine or f"machine-of-{name}"
    facts = [
        one("kube_node_info", values.format(1), provider_id=provider, internal_ip=ip, system_uuid=machine),
        one("kube_node_created", created or values.format(1000)),
        one("kube_node_status_condition", ready or values.format(1), condition="Ready", status="true"),
        one("kube_node_spec_unschedulable", values.format(cordoned)),
        one("kube_node_status_allocatable", values.format(cpu), resource="cpu", unit="core"),
        one("kube_node_status_allocatable", values.format(4 * GIB), resource="memory", unit="byte"),
        one("kube_node_status_allocatable", values.format(110), resource="pods", unit="integer"),
        *(
            one("kube_node_status_addresses", values.format(1), type=kind, address=address)
            for address, kind in addresses.items()
        ),
    ]
    if server:
        facts.append(one("kube_node_role", values.format(1), role="control-plane"))
    if taint:
        facts.append(one("kube_node_spec_taint", values.format(1), key=taint, effect="NoSchedule"))
    return dict(facts)


def pod(name: str, values: str, *, on: str = "", phase: str = "Running", cpu: float = 0.5, waits: str | None = None,
        kind: str = "ReplicaSet", told_by: Labels = KSM) -> dict[str, str]:  # fmt: skip
    """One pod with one container; `waits` is the pattern of its series `unschedulable`."""
    facts = {
        of_pod("kube_pod_info", name, told_by, node=on, created_by_kind=kind, created_by_name="web"): values.format(1),
        **{
            of_pod("kube_pod_status_phase", name, told_by, phase=each): values.format(int(each == phase))
            for each in ("Pending", "Succeeded", "Failed", "Unknown", "Running")
        },
        of_pod("kube_pod_container_resource_requests", name, told_by, container="app", node=on, resource="cpu",
               unit="core"): values.format(cpu),
    }  # fmt: skip
    if waits is not None:
        facts[of_pod("kube_pod_status_unschedulable", name, told_by)] = waits
    return facts


def of_pod(metric: str, name: str, told_by: Labels = KSM, **labels: str) -> str:
    """A series of that pod."""
    return series_text(metric, {"namespace": "shop", "pod": name, "uid": f"uid-{name}", **labels, **told_by})


def exporter(instance: str, *, idle: tuple[str, str], available_gib: str, up: str, nodename: str = "nobody",
             more: Labels | None = None) -> dict[str, str]:  # fmt: skip
    """One node-exporter of a machine with two CPUs and 4 GiB; `idle` are the counters of its two idle modes."""
    labels = {"job": "node-exporter", "instance": instance, **(more or {})}

    def one(metric: str, value: str, **more: str) -> tuple[str, str]:
        return series_text(metric, {**more, **labels}), value

    return dict(
        [
            one("up", up),
            one("node_cpu_seconds_total", idle[0], cpu="0", mode="idle"),
            one("node_cpu_seconds_total", idle[1], cpu="1", mode="idle"),
            one("node_memory_MemTotal_bytes", "4+0x400"),
            one("node_memory_MemAvailable_bytes", available_gib),
            one("node_uname_info", "1+0x400", nodename=nodename),
        ]
    )
