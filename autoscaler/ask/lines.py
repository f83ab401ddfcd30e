"""What an answer says, line by line: each with the field of the policy behind it, or what else would change it."""

import re
from typing import Final

import msgspec

from autoscaler.decide.scheduling.filters.refusal import Plugin
from autoscaler.model import Blocked, Why


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One sentence of an answer."""

    about: str
    """A signal, a stable code, a worker, a pod."""
    says: str
    """One clause for a person."""
    fields: tuple[str, ...] = ()
    """Fields of the policy that would change it; none where `instead` says what would."""
    instead: str = ""
    """What to do where no field of the policy changes it."""
    until_s: int | None = None
    """When it ends by itself, in epoch seconds; None where that depends on something else."""


class _Lever(msgspec.Struct, frozen=True):
    """What changes a kind of reason."""

    fields: tuple[str, ...] = ()
    instead: str = ""


_METRICS: Final = _Lever(instead="mend what the metrics lack: docs/monitoring.md")
_LAUNCH: Final = _Lever(("capacity.back_off_s", "workers.instance_types"))
_MANIFEST: Final = _Lever(instead="change the pod's manifest")
_POOL_LABELS: Final = _Lever(("workers.pools[].labels",))
_POOL_TAINTS: Final = _Lever(("workers.pools[].taints",))
_ZONES: Final = _Lever(instead="launch in more zones: the parameter workerSubnetIds")

_OF_CODES: Final[dict[str, _Lever]] = {
    # Growth, and what cuts it short.
    "unschedulable_pods": _Lever(("scale_up.pending_for_s",)),
    "cpu_utilisation": _Lever(("scale_up.cpu_above", "scale_up.window_s")),
    "memory_utilisation": _Lever(("scale_up.memory_above", "scale_up.window_s")),
    "minimum": _Lever(("workers.min",)),
    "headroom": _Lever(("headroom",)),
    "forecast": _Lever(("forecast",)),
    "pool_minimum": _Lever(("workers.pools[].min",)),
    "at_max": _Lever(("workers.max",)),
    "pools_at_max": _Lever(("workers.pools[].max",)),
    "pool_at_max": _Lever(("workers.pools[].max",)),
    "at_cost_cap": _Lever(("cost.max_usd_per_hour",)),
    "max_step": _Lever(("scale_up.max_step",)),
    "state_full": _Lever(instead="let open operations end: `k3s-autoscaler status` shows them"),
    "join_backoff": _Lever(("workers.join_timeout_s",), "mend why workers do not join: docs/operations.md"),
    "never_seen": _Lever(("blind_growth.step",), "let Prometheus answer once"),
    "capacity_backoff": _LAUNCH,
    "launch_busy": _LAUNCH,
    "launch_refused": _LAUNCH,
    "zone_backoff": _LAUNCH,
    "no_subnet": _ZONES,
    "spot_left_alone": _LAUNCH,
    "spot_storm": _Lever(("spot.storm_share", "spot.storm_pause_s")),
    # What holds every removal.
    "metrics_partial": _METRICS,
    "metrics_unavailable": _METRICS,
    "pods_unschedulable": _Lever(("scale_up.pending_for_s",)),
    "cpu_high": _Lever(("scale_up.cpu_above", "scale_up.window_s")),
    "memory_high": _Lever(("scale_up.memory_above", "scale_up.window_s")),
    "below_min": _Lever(("workers.min",)),
    "below_pool_min": _Lever(("workers.pools[].min",)),
    "blind_growth": _Lever(("blind_growth.step",)),
    "custom_signal": _Lever(("signals",)),
    "consolidation": _Lever(("scale_down.when", "scale_down.window_s")),
    "low_utilisation": _Lever(("scale_down.cpu_below", "scale_down.memory_below")),
    "above_max": _Lever(("workers.max",)),
    "pods_waiting": _Lever(instead="let these pods run first: `k3s-autoscaler explain NAMESPACE/POD`"),
    "waiting_for_nodes": _Lever(("workers.join_timeout_s",)),
    "removal_under_way": _Lever(("scale_down.budget", "drain.timeout_s")),
    "at_min": _Lever(("workers.min",)),
    "steady": _Lever(("scale_down.cpu_below", "scale_down.memory_below", "scale_down.when")),
    "blackout": _Lever(("scale_down.blackouts",)),
    "cooling_down": _Lever(("scale_down.cool_down_s",)),
    "no_server": _Lever(instead="tag the server k3s-autoscaler/role=server"),
    "window_unknown": _Lever(("scale_down.window_s",), "load the present rules: `make rules`"),
    "unseen": _METRICS,
    "replacing": _Lever(("rotation", "scale_down.replace_when_saves")),
    # What keeps one worker.
    "removed": _Lever(instead="wait: its Node goes by itself"),
    "not_ours": _Lever(instead="only workers tagged ManagedBy=autoscaler are removed"),
    "not_schedulable": _Lever(("workers.pools[].taints",), "or `kubectl uncordon` it"),
    "young": _Lever(("scale_down.min_age_s",)),
    "local_volume": _Lever(instead="move its data: nothing overrides a volume on the machine"),
    "held": _Lever(("scale_down.refused_for_s",)),
    "bare_pod": _Lever(instead="give the pod an owner, such as a Deployment"),
    "do_not_evict": _Lever(instead="take the annotation off the pod"),
    "critical_pod": _Lever(("scale_down.protected_priority_classes", "scale_down.movable")),
    "protected_namespace": _Lever(("scale_down.protected_namespaces", "scale_down.movable")),
    "no_room": _Lever(instead="nothing forces it: its pods need a place first"),
    "rules_unknown": _Lever(("rules.wait_s", "rules.refresh_s")),
    "moved_in_vain": _Lever(instead="wait: it is tried again by itself"),
    "on_demand": _Lever(("workers.on_demand_base", "workers.on_demand_share")),
    "not_ready": _Lever(("repair.not_ready_s", "repair.max_unhealthy_share")),
    "no_node": _Lever(("workers.join_timeout_s", "repair.max_unhealthy_share")),
    "stopped": _Lever(("repair.max_unhealthy_share",)),
    "return_to_spot": _Lever(("spot.return_after_s",)),
    "retirement": _Lever(instead="EC2 retires it whatever is done"),
    # Pods.
    "expendable": _Lever(instead="give the pod another PriorityClass"),
    "daemonset": _Lever(("workers.instance_types",)),
    "nominated": _Lever(instead="wait: the scheduler makes room for it"),
    "unhelped": _Lever(instead="ask the scheduler: `kubectl describe pod`"),
    "unfittable": _Lever(("workers.instance_types", "workers.pools")),
    "unknown": _Lever(instead="let EC2 tell the zones: the role's DescribeSubnets"),
    "signal_refused": _Lever(("signals[].query",)),
    "signal_unknown": _Lever(("signals[].query",)),
}
_OF_WORDS: Final[tuple[tuple[str, _Lever], ...]] = (
    (r"(at_min|minimum): .*min of the schedule", _Lever(("schedules[].min",))),
    (r"at_max: .*max of the schedule", _Lever(("schedules[].max",))),
    (r"needed: headroom, soon", _Lever(("schedules[].headroom", "headroom"))),
    (r"needed: headroom", _Lever(("headroom",))),
    (r"needed: pool \S+ has a min", _Lever(("workers.pools[].min",))),
    (r"needed: in the last", _Lever(("scale_down.window_s",))),
    (r"needed: cpu use", _Lever(("scale_up.cpu_above", "scale_down.target_margin"))),
    (r"needed: memory use", _Lever(("scale_up.memory_above", "scale_down.target_margin"))),
    (r"needed: .*\(min of the schedule", _Lever(("schedules[].min",))),
    (r"needed: .*\(workers\.min, soon", _Lever(("workers.min",))),
    (r"needed: .*\(forecast: ", _Lever(("forecast",))),
    (r"needed: .*\(", _Lever(("signals",))),
    (r"needed: ", _Lever(("workers.min",))),
    (r"budget: scale_down", _Lever(("scale_down.budget",))),
    (r"budget: which", _Lever(("scale_down.max_empty_step",))),
    (r"budget: ", _Lever(instead="change the PodDisruptionBudget, or wait until it allows an eviction")),
)
"""Reasons of which one code has several."""
_OF_PLUGINS: Final[dict[Plugin, _Lever]] = {
    Plugin.NODE_UNSCHEDULABLE: _Lever(instead="`kubectl uncordon` it"),
    Plugin.NODE_NAME: _MANIFEST,
    Plugin.TAINT_TOLERATION: _POOL_TAINTS,
    Plugin.NODE_AFFINITY: _POOL_LABELS,
    Plugin.NODE_PORTS: _MANIFEST,
    Plugin.NODE_RESOURCES_FIT: _Lever(("workers.instance_types", "workers.pools")),
    Plugin.VOLUME_RESTRICTIONS: _MANIFEST,
    Plugin.NODE_VOLUME_LIMITS: _MANIFEST,
    Plugin.VOLUME_BINDING: _ZONES,
    Plugin.VOLUME_ZONE: _ZONES,
    Plugin.POD_TOPOLOGY_SPREAD: _MANIFEST,
    Plugin.INTER_POD_AFFINITY: _MANIFEST,
}
_OTHERWISE: Final = _Lever(instead="docs/operations.md")


def line(about: str, says: str, *, code: str, until_s: int | None = None) -> Line:
    """A sentence with what changes it: by the words `code: says` where the code has several meanings."""
    lever = _lever(f"{code}: {says}") or _OF_CODES.get(code) or _of_plugin(code) or _OTHERWISE
    return Line(about=about, says=says, fields=lever.fields, instead=lever.instead, until_s=until_s)


def row(blocked: Blocked) -> Line:
    """A row of a decision's `blocked`."""
    return msgspec.structs.replace(of(Why(blocked.code, blocked.text)), about=blocked.subject, says=blocked.reason)


def of(why: Why) -> Line:
    """A reason as decisions tell it."""
    code, says = why.code, why.text or why.code
    plugin = next((name for name in Plugin if f" by {name}: " in says), code) if code == "unhelpable" else code
    return line(code, says, code=plugin, until_s=why.until_s)


def known(code: str) -> bool:
    """Whether anything is known that changes what has this code."""
    return code in _OF_CODES


def levers() -> tuple[str, ...]:
    """Every field that an answer may name: a test holds them against the policy."""
    every = (*_OF_CODES.values(), *_OF_PLUGINS.values(), *(lever for _, lever in _OF_WORDS))
    return tuple(dict.fromkeys(field for lever in every for field in lever.fields))


def _lever(reason: str) -> _Lever | None:
    return next((lever for pattern, lever in _OF_WORDS if re.match(pattern, reason)), None)


def _of_plugin(code: str) -> _Lever | None:
    return _OF_PLUGINS.get(Plugin(code)) if code in set(Plugin) else None
