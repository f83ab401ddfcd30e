"""The PromQL of what pods ask of each Node: computed at a look, and recorded, since a shrink looks back at it.

In few passes: at 30,000 pods each family selected costs 0.2 to 0.5 s. Requests and pods are one selection, and what few
pods have on top is added before finished pods are taken out:
effective = max(app + sidecar, init + sidecar) + overhead = app + sidecar + overhead + max(0, init - app).
"""

from typing import Final

from autoscaler.observe.promql import BOUND, RESOURCES, SIDECAR, Raw, labelled

INIT_REQUESTS: Final = "kube_pod_init_container_resource_requests"
OVERHEAD: Final = "kube_pod_overhead_cpu_cores"
_REQUESTS: Final = "kube_pod_container_resource_requests"
_OF_A_POD: Final = (
    "namespace, pod, uid, container, unit, created_by_name, priority_class, host_ip, pod_ip, host_network"
)
"""Labels of a pod's series: what is left says whose Node it is and who tells it."""


def requested_now(raw: Raw, *, with_init: bool, with_overhead: bool) -> str:
    """{node, resource="cpu|memory"} effective requests in cores and bytes; {node}, {node, stays="true"} pods.

    `stays`: those that a drain leaves, daemons and static pods.
    """
    pods = raw.state("", f'__name__=~"kube_pod_info|{_REQUESTS}",node!="",resource=~"cpu|memory|"')
    extras = {**(_init_extras(raw) if with_init else {}), **(_overhead_extras(raw) if with_overhead else {})}
    if extras:
        extra = " or ".join(labelled(expression, part=part) for part, expression in extras.items())
        # `on (part)`: the first side has no such label, so everything of the second is added.
        pods = f"({pods} or on (part) ({extra}))"
    by_kind = f"sum without ({_OF_A_POD}, part) ({pods} and on (uid) {raw.alive})"
    # A label that is there already: VictoriaMetrics 1.79 leaves rubbish in a new one where the regex does not match.
    stays = f'label_replace({labelled(by_kind, stays="false")}, "stays", "true", "created_by_kind", "DaemonSet|Node")'
    stays = f'label_replace({stays}, "stays", "", "stays", "false")'
    return f"max by (node, resource, stays) (sum without (created_by_kind) ({stays}))"


def requested_for_windows(raw: Raw) -> str:
    """{node, resource="cpu|memory"} cores and bytes, {node} pods that a drain would move: 0 for none, on every Node.

    Zeros are written: a Node without pods has no series of them, and a window must tell that from a gap.
    """
    everything = requested_now(raw, with_init=True, with_overhead=True)
    moves = f"{everything} unless on (stays) {labelled('vector(1)', stays='true')}"
    sizes, pods = (
        raw.state("kube_node_status_allocatable", f'resource=~"{wanted}"') for wanted in ("cpu|memory", "pods")
    )
    return f"max by (node, resource) ({moves}) or 0 * max by (node, resource) ({sizes}) or 0 * max by (node) ({pods})"


def requested_in_window(raw: Raw, window_s: int) -> dict[str, str]:
    """The highest of the recorded values by Node and resource, and how many there are; and of all workers at once."""
    recorded = f"{raw.recorded('node_requested')}[{window_s}s]"
    of_all = raw.recorded("workers_demand", 'of="requests"')
    used = raw.recorded("workers_demand", 'of="use",resource="cpu"')
    return {
        "used_at_once": f"max by (resource) (max_over_time({used}[{window_s}s]))",
        "requested_at_once": f"max by (resource) (max_over_time({of_all}[{window_s}s]))",
        "requested_max": f"max by (node, resource) (max_over_time({recorded}))",
        "requested_count": f"max by (node, resource) (count_over_time({recorded}))",
    }


def _init_extras(raw: Raw) -> dict[str, str]:
    app = raw.state(_REQUESTS, f"{RESOURCES},{BOUND}")
    init = raw.state(INIT_REQUESTS, f"{RESOURCES},{BOUND}")
    sidecars = raw.state("kube_pod_init_container_info", SIDECAR)
    largest = f"max without (container, unit) ({init} unless on (uid, container) {sidecars})"
    under = f"sum without (container, unit) ({app} and on (uid) {init})"
    return {
        "init": f"clamp_min(({largest} - {under}) or {largest}, 0)",
        "sidecar": f"sum without (container, unit) ({init} and on (uid, container) {sidecars})",
    }


def _overhead_extras(raw: Raw) -> dict[str, str]:
    cpu, memory = raw.state("kube_pod_overhead_cpu_cores"), raw.state("kube_pod_overhead_memory_bytes")
    place = f"max by (uid, node) ({raw.state('kube_pod_info', BOUND)} and on (uid) ({cpu} or {memory}))"
    return {
        f"overhead_{resource}": f"{labelled(overhead, resource=resource)} * on (uid) group_left (node) {place}"
        for resource, overhead in (("cpu", cpu), ("memory", memory))
    }
