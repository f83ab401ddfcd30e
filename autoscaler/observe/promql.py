"""The PromQL that the look's queries and the rules have in common: one source for both.

`Raw` names series of one cluster: the jobs' names and the policy's `metrics.matchers` stand in every selector. What
several targets show (a restart, a replica, a store that keeps two copies) is the same thing: each expression takes
the largest, after summing within one target, so nothing is counted twice.
"""

from collections.abc import Mapping
from typing import Final

from autoscaler.observe.series import KUBE_STATE_METRICS, NODE_EXPORTER, PREFIX

CORDON_TAINT: Final = "node.kubernetes.io/unschedulable"
_OF_A_NODE: Final = (
    "node, kernel_version, os_image, container_runtime_version, kubelet_version, kubeproxy_version, provider_id, "
    "pod_cidr, system_uuid, internal_ip"
)
"""Labels of kube_node_info: what is left says who tells it."""
SIDECAR: Final = 'restart_policy="Always"'
"""Of init containers that run beside the app for the pod's whole life."""
BOUND: Final = 'node!=""'
RESOURCES: Final = 'resource=~"cpu|memory"'
_LOCAL_NODE: Final = "annotation_local_path_provisioner_selected_node"


class Raw:
    """Selectors and expressions over the raw series of one cluster."""

    def __init__(self, matchers: Mapping[str, str]) -> None:
        self._matchers = ",".join(f"{label}={quoted(value)}" for label, value in sorted(matchers.items()))

    # ------------------------------------------------------------------------------------------------------- selectors

    def state(self, name: str, matchers: str = "") -> str:
        """A series of kube-state-metrics."""
        return self._selector(name, f'job="{KUBE_STATE_METRICS}"', matchers)

    def telemetry(self, name: str) -> str:
        """A series of kube-state-metrics' telemetry port, whatever the job is called that scrapes it."""
        return self._selector(name)

    def machine(self, name: str, matchers: str = "") -> str:
        """A series of node-exporter."""
        return self._selector(name, f'job="{NODE_EXPORTER}"', matchers)

    def recorded(self, family: str, matchers: str = "") -> str:
        """A series that our rules record."""
        return self._selector(PREFIX + family, matchers)

    def _selector(self, name: str, *matchers: str) -> str:
        return f"{name}{{{','.join(part for part in (*matchers, self._matchers) if part)}}}"

    # ----------------------------------------------------------------------------------------------------------- nodes

    @property
    def created(self) -> str:
        """{node} epoch seconds."""
        return f"max by (node) ({self.state('kube_node_created')})"

    @property
    def ready(self) -> str:
        """{node} 1 or 0. Condition Ready=Unknown is 0 too: the kubelet is silent."""
        return f"max by (node) ({self.state('kube_node_status_condition', _READY)})"

    @property
    def cordoned(self) -> str:
        """{node} 1 or 0."""
        return f"max by (node) ({self.state('kube_node_spec_unschedulable')})"

    @property
    def control_plane(self) -> str:
        """{node} 1. `etcd` alone is a server without an API, no worker either."""
        return f"max by (node) ({self.state('kube_node_role', _SERVER_ROLES)})"

    @property
    def taint(self) -> str:
        """{node, key, effect} 1; the cordon's own taint is told by `cordoned`."""
        wanted = f'effect=~"NoSchedule|NoExecute",key!="{CORDON_TAINT}"'
        return f"max by (node, key, effect) ({self.state('kube_node_spec_taint', wanted)})"

    @property
    def allocatable(self) -> str:
        """{node, resource} cores, bytes."""
        wanted = 'resource=~"cpu|memory"'
        return f"max by (node, resource) ({self.state('kube_node_status_allocatable', wanted)})"

    @property
    def takers(self) -> str:
        """{node} 1: workers that the scheduler may give pods to."""
        return (
            f"({self.ready} == 1 unless on (node) {self.control_plane} unless on (node) {self.cordoned} == 1 "
            f"unless on (node) {self.taint})"
        )

    @property
    def told_by(self) -> str:
        """{every label of a target and its store} how many Nodes it shows."""
        return f"count without ({_OF_A_NODE}) ({self.state('kube_node_info')})"

    # ------------------------------------------------------------------------------------------------------------ pods

    @property
    def unschedulable(self) -> str:
        """Pods that the scheduler found no Node for, gated ones too; a series that exists only while it is true."""
        return f"({self.state('kube_pod_status_unschedulable')} == 1)"

    @property
    def gated(self) -> str:
        """Pods that a scheduling gate holds back (kube-state-metrics 2.19 and newer)."""
        return f"({self.state('kube_pod_status_reason', _GATED)} == 1)"

    @property
    def waiting(self) -> str:
        """What the alert counts: unschedulable, held back by no gate, not being deleted."""
        return (
            f"{self.unschedulable} unless on (uid) {self.gated} "
            f"unless on (uid) {self.state('kube_pod_deletion_timestamp')}"
        )

    @property
    def alive(self) -> str:
        """Pods that have not finished: finished ones hold nothing, and their requests are shown all the same."""
        return self.alive_where("")

    def alive_where(self, matchers: str) -> str:
        """Of these, the pods that have not finished."""
        return f"({self.state('kube_pod_status_phase', ','.join(part for part in (_ALIVE, matchers) if part))} == 1)"

    # --------------------------------------------------------------------------------------------------------- volumes

    @property
    def local_volumes(self) -> str:
        """{node} local-path volumes, mounted or not."""
        placed = self.state("kube_persistentvolume_annotations", f'{_LOCAL_NODE}!=""')
        by_volume = f"max by (persistentvolume, {_LOCAL_NODE}) ({placed})"
        return f'count by (node) (label_replace({by_volume}, "node", "$1", "{_LOCAL_NODE}", "(.+)"))'

    @property
    def placed_volumes(self) -> str:
        """Volumes that say which node they are on."""
        return self.state("kube_persistentvolume_annotations", f'{_LOCAL_NODE}!=""')

    @property
    def unplaced_volumes(self) -> str:
        """{persistentvolume} volumes on a node's own disk that do not say on which."""
        local = self.state("kube_persistentvolume_info", 'local_path!=""')
        host = self.state("kube_persistentvolume_info", 'host_path!=""')
        placed = f"max by (persistentvolume) ({self.placed_volumes})"
        return f"max by (persistentvolume) ({local} or {host}) unless on (persistentvolume) {placed}"

    # ----------------------------------------------------------------------------------------------------- utilisation

    def node_utilisation(self, cpu_rate_window_s: int, interval_s: int) -> str:
        """{node, resource} ratio.

        CPU is what is not idle, averaged over the machine's CPUs. (The average of rate(...{mode!="idle"}) is an average
        over modes too, and shows a full machine as 14 %.) A machine counts as measured once its counters fill the
        window: rate() divides by the whole window even where it has samples for a part of it only, which would show a
        new, idle machine as busy. One failed scrape, a window ago, does not matter: hence two of the scrapes' interval.
        """
        idle = self.machine("node_cpu_seconds_total", 'mode="idle"')
        available = self.machine("node_memory_MemAvailable_bytes")
        total = self.machine("node_memory_MemTotal_bytes")
        window = f"{cpu_rate_window_s}s"
        full = f"last_over_time({idle}[{2 * interval_s}s] offset {window})"
        cpu = f"1 - avg by (instance) (rate({idle}[{window}]) and {full})"
        memory = f"1 - max by (instance) ({available}) / max by (instance) ({total})"
        return (
            f"clamp(max by (node, resource) ((\n"
            f'  label_replace({cpu}, "resource", "cpu", "", "")\n'
            f'  or label_replace({memory}, "resource", "memory", "", "")\n'
            f") * on (instance) group_left (node) (\n{self._node_of_instance()}\n)), 0, 1)"
        )

    def _node_of_instance(self) -> str:
        """{instance, node}: which Node a target of node-exporter runs on.

        By the address that it answers on (each of the Node's: a dual-stack Node has two, and kube_node_info shows the
        last), by the Node's name (kube-prometheus-stack relabels `instance` to it), by the machine's name, or by the
        address that EC2's private DNS name spells. A dead Node may still hold what a new machine got: the
        youngest wins.
        """
        # Each selects what its expression matches: VictoriaMetrics 1.79 leaves rubbish in the label otherwise.
        up = f"{self.machine('up', _HOST_IS_TOLD)} == 1"
        in_ec2 = f"{self.machine('up', _EC2_NAME_IS_TOLD)} == 1"
        host = r'"instance", "(?:\\[(.+)\\]|([^:]+))(?::[0-9]+)?"'
        uname = self.machine("node_uname_info")
        info = self.state("kube_node_info")
        ec2 = r'"instance", "ip-([0-9]+)-([0-9]+)-([0-9]+)-([0-9]+)\\..+"'
        ways = (
            f'label_replace({up}, "address", "$1$2", {host}) * on (address) group_left (node) {self._youngest(_IP)}',
            f'label_replace({up}, "node", "$1$2", {host}) and on (node) {info}',
            f'label_replace({uname}, "node", "$1", "nodename", "(.+)") and on (node) {info}',
            f'label_replace({uname}, "address", "$1", "nodename", "(.+)") * on (address) group_left (node) '
            f"{self._youngest(_HOSTNAME)}",
            f'label_replace({in_ec2}, "address", "$1.$2.$3.$4", {ec2}) * on (address) group_left (node) '
            f"{self._youngest(_IP)}",
        )
        return "\n  or on (instance)\n".join(f"  group by (instance, node) ({way})" for way in ways)

    def _youngest(self, kind: str) -> str:
        listed = f"group by (node, address) ({self.state('kube_node_status_addresses', kind)})"
        if kind == _IP:
            # Where addresses are not shown, kube_node_info's one has to do.
            info = self.state("kube_node_info", 'internal_ip!=""')
            last = f'label_replace({info}, "address", "$1", "internal_ip", "(.+)")'
            listed = f"({listed} or group by (node, address) ({last}))"
        return f"topk by (address) (1, {listed} * on (node) group_left () {self.created})"

    def workers_requested(self) -> str:
        """{resource} cores, bytes: what pods on all workers ask for, whoever takes pods; 0 without a worker."""
        everything = self.recorded("node_requested", RESOURCES)
        return (
            f"sum by (resource) ({everything} unless on (node) {self.control_plane})\n"
            f"or 0 * sum by (resource) ({everything})"
        )

    def workers_used(self) -> str:
        """{resource} cores, bytes: what all workers that are measured use; 0 without one."""
        used = f"{self.allocatable} * on (node, resource) {self.recorded('node_utilisation')}"
        return f"sum by (resource) ({used} unless on (node) {self.control_plane})\nor 0 * sum by (resource) ({used})"

    def workers_utilisation(self, *, unmeasured: int) -> str:
        """{resource} ratio over the workers that take pods, weighed by what they can give; absent where there is none.

        A worker that is not measured counts as `unmeasured`: 0 gives the lower bound, 1 the upper one.
        """
        of_takers = f"({self.allocatable} and on (node) {self.takers})"
        used = f"{self.allocatable} * on (node, resource) {self.recorded('node_utilisation')}"
        return (
            f"sum by (resource) ((\n  {used}\n  or {unmeasured} * {self.allocatable}\n)\nand on (node) {self.takers})\n"
            f"/ sum by (resource) {of_takers}"
        )


_ALIVE: Final = 'phase=~"Pending|Running"'
_READY: Final = 'condition="Ready",status="true"'
_SERVER_ROLES: Final = 'role=~"control-plane|master|etcd"'
_GATED: Final = 'reason="SchedulingGated"'
_HOST_IS_TOLD: Final = r'instance=~"(?:\\[.+\\]|[^:]+)(?::[0-9]+)?"'
_EC2_NAME_IS_TOLD: Final = r'instance=~"ip-[0-9]+-[0-9]+-[0-9]+-[0-9]+\\..+"'
_IP: Final = 'type="InternalIP"'
_HOSTNAME: Final = 'type="Hostname"'


def quoted(text: str) -> str:
    """The text as a PromQL string."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def labelled(expression: str, **labels: str) -> str:
    """The expression with these labels on every row."""
    for name, value in labels.items():
        expression = f'label_replace({expression}, "{name}", "{value}", "", "")'
    return expression
