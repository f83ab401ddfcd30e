"""The PromQL of the rules, by the name of its place in the templates: the very expressions that the queries use."""

from collections.abc import Mapping
from typing import Final

from autoscaler.deploy.layout import laid_out
from autoscaler.metrics_policy import MetricsPolicy
from autoscaler.observe.promql import Raw
from autoscaler.observe.requested import requested_for_windows

NAMED: Final = 3
"""Waiting pods that the alert names."""


def rule_expressions(metrics: MetricsPolicy, matchers: Mapping[str, str]) -> dict[str, str]:
    """Return PromQL by name. `matchers` stand in every selector: the policy's, or none."""
    raw = Raw(matchers)
    expressions = {
        "waiting": raw.waiting,
        "oldest_waiting": (
            f"bottomk({NAMED}, max by (namespace, pod) "
            f"({raw.state('kube_pod_status_unscheduled_time')} and on (uid) ({raw.waiting})))"
        ),
        "node_ready": raw.ready,
        "node_requested": requested_for_windows(raw),
        "node_utilisation": raw.node_utilisation(metrics.cpu_rate_window_s, metrics.utilisation_interval_s),
        "workers_requested": raw.workers_requested(),
        "workers_used": raw.workers_used(),
        "workers_low": raw.workers_utilisation(unmeasured=0),
        "workers_high": raw.workers_utilisation(unmeasured=1),
        "silent_workers": f"{raw.recorded('node_ready')} == 0 unless on (node) {raw.control_plane}",
    }
    for resource in ("cpu", "memory"):
        for bound in ("low", "high"):
            matcher = f'resource="{resource}",bound="{bound}"'
            expressions[f"{resource}_{bound}"] = f"max({raw.recorded('workers_utilisation', matcher)})"
    return {name: laid_out(promql) for name, promql in expressions.items()}
