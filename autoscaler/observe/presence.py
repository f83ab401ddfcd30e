"""What proves that an answer is whole, fresh and of our world: *none* and *not shown* differ.

A proof stands for every family (docs/metrics.md has the table). What fails one is told in one sentence that names the
cause and the mend, and lands in one of three places: `cluster` makes Nodes and pods unknown, so nothing is computed
from them; `other` makes the picture partial, so nothing shrinks; `unshown` costs only what needs that one family.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from autoscaler.model import Instance, Node, Pod, Unshown
from autoscaler.observe.nodes import recording_interval_s
from autoscaler.observe.pods import pod_key
from autoscaler.observe.samples import Rows
from autoscaler.observe.series import (
    COUNTED,
    FAMILY,
    KUBE_STATE_METRICS,
    META_FAMILIES,
    NODE_EXPORTER,
    NODE_FAMILIES,
    POD_FAMILIES,
    UTILISATION_GROUP,
)
from autoscaler.observe.unshown import unshown_families
from autoscaler.policy import Policy

CLOCK_TOLERANCE_S: Final = 300
"""Prometheus' clock and ours may differ this far before its answer counts as somebody's cache."""
INTERVALS_OF_AGE: Final = 2.5
"""A source may be this many of its own intervals old, however short the policy's limit."""
LONGEST_INTERVAL_S: Final = 120
"""A target that is seldom scraped, or was only just found, may not stretch that further."""
GATED_SINCE: Final = (2, 20)
"""From this version on kube_pod_status_reason has rows only for what holds; in 2.19 every pod has one for gates."""
_OF_THE_CLUSTER: Final = frozenset({*NODE_FAMILIES, *POD_FAMILIES, *META_FAMILIES}) - {
    "node_unmeasured",
    "evaluated_at",
}


class Proofs(msgspec.Struct, frozen=True, kw_only=True):
    """What could not be proven."""

    cluster: tuple[str, ...]
    other: tuple[str, ...]
    unshown: tuple[Unshown, ...]
    absence: bool
    """Whether what is not shown is not there."""


def prove(
    rows: Rows,
    nodes: Sequence[Node],
    unbound: Sequence[Pod],
    instances: Sequence[Instance],
    policy: Policy,
    *,
    now_s: int,
) -> Proofs:
    """Hold the answer against what every K3s cluster has, and against what EC2 says of ours."""
    cluster = [
        *_numbers(rows, of_the_cluster=True),
        *_counts(rows),
        *_clock(rows, now_s),
        *_fresh(rows, KUBE_STATE_METRICS, policy),
        *_whole_nodes(rows, nodes),
        *_one_world(rows, nodes),
        *_servers_told(nodes, instances),
        *_gates_told(rows, unbound),
    ]
    lacking = _sources(rows)
    other = [
        *_numbers(rows, of_the_cluster=False),
        *_fresh(rows, NODE_EXPORTER, policy),
        *lacking,
        *_recorded(rows, policy),
        *_used(rows, nodes),
        *_measured(rows),
        *_waiting_told(rows, unbound),
        *_taints_told(rows, nodes),
    ]
    return Proofs(
        cluster=tuple(cluster),
        other=tuple(other),
        unshown=tuple(unshown_families(rows, nodes, instances)),
        absence=not lacking,
    )


# --------------------------------------------------------------------------------------------------------- the answer


def _numbers(rows: Rows, *, of_the_cluster: bool) -> list[str]:
    return [
        f"{family or 'a row without a family'} holds {text!r}, which is not a finite number: what answers is no "
        "Prometheus with these series"
        for family, text in rows.garbage.items()
        if (family in _OF_THE_CLUSTER) == of_the_cluster
    ]


def _counts(rows: Rows) -> list[str]:
    """What tells exceptions is believed only whole: a row that does not arrive would be taken for all being well."""
    problems = []
    for family in COUNTED:
        counted, came = rows.one("counted", of=family), len(rows.of(family))
        if counted is None:
            problems.append(f"how many rows {family} has is not told: the answer is not whole, ask Prometheus itself")
        elif counted != came:
            problems.append(f"{family} has {counted:.0f} rows and {came} came: the answer is not whole")
    if rows.one("counted", of="node_unmeasured") is None:
        problems.append("how many workers are not measured is not told: the answer is not whole")
    return problems


def _clock(rows: Rows, now_s: int) -> list[str]:
    apart_s = abs(rows.at_s - now_s)
    if apart_s <= CLOCK_TOLERANCE_S:
        return []
    return [f"Prometheus' clock differs from ours by {apart_s:.0f} s: what answers may be a cache, or a clock is wrong"]


def _fresh(rows: Rows, source: str, policy: Policy) -> list[str]:
    scraped_s = rows.one("scraped_at", source=source)
    if scraped_s is None:
        matchers = f" with {policy.metrics.matchers}" if policy.metrics.matchers else ""
        return [
            f"{source} is not scraped: no target of the job {source}{matchers} is up; see that it runs and that "
            "Prometheus reaches it"
        ]
    interval_s = min(rows.one("scrape_interval", source=source) or 0.0, LONGEST_INTERVAL_S)
    limit_s = max(policy.metrics.max_age_s, INTERVALS_OF_AGE * interval_s)
    age_s = rows.at_s - scraped_s
    if age_s <= limit_s:
        return []
    return [
        f"{source} was last scraped {age_s:.0f} s ago; at most {limit_s:.0f} s are accepted: see why its target fails"
    ]


# ---------------------------------------------------------------------------------------------------------- the cluster


def _whole_nodes(rows: Rows, nodes: Sequence[Node]) -> list[str]:
    problems = []
    incomplete = sorted({labels.get("node", "") for labels, _ in rows.of("node_incomplete")})
    if incomplete:
        problems.append(
            f"the creation time or what can be allocated of {_names(incomplete)} is not shown: let kube-state-metrics "
            "expose kube_node_created and kube_node_status_allocatable"
        )
    unreadable = [node.name for node in nodes if node.allocatable is None]
    if unreadable:
        problems.append(f"what can be allocated of {_names(unreadable)} is no number")
    count = len({node.name for node in nodes} | set(incomplete))
    if not count:
        problems.append(
            "no Node is shown, which no K3s cluster can be: see that kube-state-metrics exposes kube_node_info"
            " and that metrics.matchers of the policy, if any, fit"
        )
        return problems
    for family in ("kube_node_status_condition", "kube_node_spec_unschedulable"):
        told = rows.one("shown", of=family) or 0
        if told != count:
            problems.append(
                f"{family} is shown of {told:.0f} Nodes and there are {count}: let kube-state-metrics expose it"
            )
    return problems


def _one_world(rows: Rows, nodes: Sequence[Node]) -> list[str]:
    """Series of two clusters, or of a part of one, are no world to compute with."""
    problems = []
    sources = rows.of("source_nodes")
    names = {node.name for node in nodes} | {labels.get("node", "") for labels, _ in rows.of("node_incomplete")}
    most = max((value for _, value in sources), default=0.0)
    if nodes and most < len(names):
        told = " and ".join(_source(labels) for labels, _ in sources[:2])
        problems.append(
            f"{len(names)} Nodes are shown and no target shows more than {most:.0f} of them ({told}): these are "
            "several clusters, or shards; select one cluster with metrics.matchers in the policy"
        )
    twice = sorted({labels.get("node", "") for labels, _ in rows.of("node_twice")})
    named = [node.name for node in nodes]
    twice += (
        sorted({name for name in named if named.count(name) > 1} - set(twice)) if len(set(named)) < len(named) else []
    )
    if twice:
        problems.append(
            f"several machines go by the name of {_names(twice)}: two clusters are shown at once; select one with "
            "metrics.matchers in the policy"
        )
    if rows.of("overwritten"):
        problems.append(
            "the scrape of kube-state-metrics overwrites its labels (exported_pod): set honor_labels: true in its job"
        )
    return problems


def _servers_told(nodes: Sequence[Node], instances: Sequence[Instance]) -> list[str]:
    """Without any control-plane Node the servers may stand among the workers."""
    if not nodes or any(node.control_plane for node in nodes):
        return []
    workers = {instance.instance_id for instance in instances if not instance.server}
    untold = [node.name for node in nodes if node.instance_id not in workers]
    if not untold:
        return []
    return [
        f"no Node is shown as a server, and {_names(untold)} may be one: let kube-state-metrics expose kube_node_role"
    ]


def _gates_told(rows: Rows, unbound: Sequence[Pod]) -> list[str]:
    """A pod that waits may be held back by a gate; whether gates are shown matters only then."""
    waiting = [pod for pod in unbound if pod.unschedulable_since_s is not None]
    if not waiting or _shows_gates(rows):
        return []
    return [
        f"whether {waiting[0].title} is held back by a scheduling gate is not shown: use kube-state-metrics 2.19 or "
        "newer with kube_pod_status_reason, and scrape its telemetry port"
    ]


def _shows_gates(rows: Rows) -> bool:
    if rows.one("shown", of="kube_pod_status_reason") is not None:
        return True
    if rows.one("shown", of="kube_pod_status_reason_of_old") is not None:
        return False
    new = rows.one("shown", of="kube_node_spec_pod_cidrs") is not None  # a family that 2.20 brought
    return new or any(_version(labels.get("version", "")) >= GATED_SINCE for labels, _ in rows.of("version"))


def _version(text: str) -> tuple[int, ...]:
    parts = text.removeprefix("v").split(".")[:2]
    return tuple(int(part) for part in parts) if all(part.isdigit() for part in parts) else ()


# ------------------------------------------------------------------------------------------------------------ the rest


def _sources(rows: Rows) -> list[str]:
    problems = []
    down = rows.one("targets_down", source=KUBE_STATE_METRICS)
    if down:
        problems.append(
            f"{down:.0f} target(s) of {KUBE_STATE_METRICS} do not answer, and what only they show is missing: bring "
            "them back, or take them out of the scrape configuration"
        )
    if rows.one("restarted", source=KUBE_STATE_METRICS):
        problems.append(f"{KUBE_STATE_METRICS} restarted less than 60 s ago and may still be filling its caches")
    return problems


def _recorded(rows: Rows, policy: Policy) -> list[str]:
    evaluated_s = rows.one("evaluated_at", group=UTILISATION_GROUP)
    if evaluated_s is None:
        return [
            f"the rule group {UTILISATION_GROUP} was not evaluated: evaluated_at is missing; load monitoring/rules "
            "into Prometheus"
        ]
    interval_s = recording_interval_s(rows)
    if interval_s is None:
        return [f"the rule group {UTILISATION_GROUP} does not tell its interval: render the rules anew (make rules)"]
    problems = []
    limit_s = max(policy.metrics.max_age_s, INTERVALS_OF_AGE * min(interval_s, LONGEST_INTERVAL_S))
    age_s = rows.at_s - evaluated_s
    if age_s > limit_s:
        problems.append(
            f"the rule group {UTILISATION_GROUP} was last evaluated {age_s:.0f} s ago; at most {limit_s:.0f} s are "
            "accepted: see Prometheus' rules page for what fails or is slow"
        )
    problems.extend(
        f"{name} is {window_s} s and the rules record every {interval_s:g} s: a window holds at least two; lengthen it "
        "or shorten metrics.utilisation_interval_s"
        for name, window_s in (
            ("scale_up.window_s", policy.scale_up.window_s),
            ("scale_down.window_s", policy.scale_down.window_s),
            ("repair.not_ready_s", policy.repair.not_ready_s),
        )
        if window_s < 2 * interval_s
    )
    return problems


def _used(rows: Rows, nodes: Sequence[Node]) -> list[str]:
    """The use is over the workers that take pods: where there is one, there is a value."""
    takers = [n for n in nodes if n.ready and not n.cordoned and not n.tainted and not n.control_plane]
    missing = sorted({"cpu", "memory"} - rows.by("use", "resource").keys())
    if not takers or not missing or rows.one("evaluated_at", group=UTILISATION_GROUP) is None:
        return []
    return [
        f"the {missing[0]} use of the workers is not recorded although {takers[0].name} takes pods: it just became "
        "Ready, or the rule fails; see Prometheus' rules page"
    ]


def _measured(rows: Rows) -> list[str]:
    count = rows.one("counted", of="node_unmeasured")
    if not count:
        return []
    missing = sorted({(labels.get("node", ""), labels.get("resource", "")) for labels, _ in rows.of("node_unmeasured")})
    node, resource = missing[0] if missing else ("a worker", "use")
    more = f" (and {count - 1:.0f} more like it)" if count > 1 else ""
    return [
        f"the {resource} use of {node} is not measured{more}: it just joined, or node-exporter does not answer there, "
        "or its target's `instance` is neither an address nor a name of the Node"
    ]


def _waiting_told(rows: Rows, unbound: Sequence[Pod]) -> list[str]:
    """The series of unschedulable pods exists only while there is one: pods without a Node prove that it is shown."""
    if rows.of("pod_unschedulable"):
        return []
    alive = {(pod.namespace, pod.name, pod.uid) for pod in unbound}
    unexplained = [key for labels, _ in rows.of("pod_unbound_long") if (key := pod_key(labels)) in alive]
    if not unexplained:
        return []
    return [
        f"pod {unexplained[0][0]}/{unexplained[0][1]} has had no Node for a minute and nothing says why: let "
        "kube-state-metrics expose kube_pod_status_unschedulable, or see which scheduler it waits for"
    ]


def _taints_told(rows: Rows, nodes: Sequence[Node]) -> list[str]:
    """Kubernetes taints each Node that is not Ready."""
    unready = [node.name for node in nodes if node.unready_long]
    if not unready or rows.of("node_taint"):
        return []
    return [f"no taint is shown although {unready[0]} is NotReady: let kube-state-metrics expose kube_node_spec_taint"]


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"Node {names[0]}{more}"


def _source(labels: Mapping[str, str]) -> str:
    return ", ".join(f"{key}={value}" for key, value in sorted(labels.items()) if key != FAMILY)
