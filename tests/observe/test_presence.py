"""How far an answer can be trusted: every way in which it can be wrong, and what that makes unknown.

Three outcomes: the cluster is unknown (nothing is computed), the picture is partial (nothing shrinks), or one family is
not shown (only what needs it waits). Each with one sentence that names the cause and the mend.
"""

from typing import Any

import msgspec
import pytest

from autoscaler.model import MetricsStatus, Sample, State
from autoscaler.observe.series import COUNTED, FAMILY, SIGHT_FAMILIES
from autoscaler.observe.snapshot import assemble
from autoscaler.policy import Policy, Repair, ScaleDown, ScaleUp
from autoscaler.ports import MetricsUnavailable
from tests.observe.answers import (
    CLUSTER_ID,
    NOW_S,
    POLICY,
    Spoil,
    chain,
    counted,
    fleet,
    healthy,
    node,
    plus,
    sample,
    seen,
    valued,
    without,
)

HEALTHY = healthy()
OK, PARTIAL, UNAVAILABLE = MetricsStatus.OK, MetricsStatus.PARTIAL, MetricsStatus.UNAVAILABLE
KSM, EXPORTER = {"source": "kube-state-metrics"}, {"source": "node-exporter"}
POD = {"namespace": "shop", "pod": "web", "uid": "u"}
UNBOUND = (sample("pod_unbound", **POD), sample("pod_pending", **POD))
WAITS = (*UNBOUND, sample("pod_unschedulable", NOW_S - 20, **POD))


def uncounted(family: str) -> Spoil:
    """The family's rows do not arrive, and what it counts stays as it was."""
    return lambda samples: [s for s in samples if s.metric[FAMILY] != family]


def test_a_healthy_answer_is_ok() -> None:
    snapshot = seen(HEALTHY)
    assert (snapshot.metrics_problems, snapshot.unshown) == ((), ())
    assert (snapshot.metrics_status, snapshot.cluster_known) == (OK, True)
    assert (snapshot.taken_at_s, snapshot.metrics_at_s) == (NOW_S, NOW_S)
    assert [n.name for n in snapshot.nodes] == ["server", "static-1", "worker-i-0001", "worker-i-0002"]
    assert [n.local_volumes for n in snapshot.nodes] == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        pytest.param(
            valued("scraped_at", NOW_S - 31, **KSM),
            "kube-state-metrics was last scraped 31 s ago; at most 30 s are accepted",
            id="scrapes are stale",
        ),
        pytest.param(without("scraped_at", **KSM), "kube-state-metrics is not scraped", id="never scraped"),
        pytest.param(
            chain(valued("scrape_interval", 30, **KSM), valued("scraped_at", NOW_S - 76, **KSM)),
            "last scraped 76 s ago; at most 75 s",
            id="stale by its own interval",
        ),
        pytest.param(
            chain(valued("scrape_interval", 300, **KSM), valued("scraped_at", NOW_S - 301, **KSM)),
            "last scraped 301 s ago; at most 300 s",
            id="an interval that only a new target shows stretches no further than two minutes",
        ),
        pytest.param(
            valued("node", "NaN", node="static-1"), "node holds 'NaN', which is not a finite number", id="NaN"
        ),
        pytest.param(valued("node_control_plane", "+Inf"), "node_control_plane holds '+Inf'", id="infinite"),
        pytest.param(valued("node", "<html>"), "node holds '<html>'", id="garbage"),
        pytest.param(
            without("node", node="static-1"), "node has 4 rows and 3 came: the answer is not whole", id="one dropped"
        ),
        pytest.param(
            valued("counted", "NaN", of="pod_gated"), "how many rows pod_gated has is not told", id="the count is NaN"
        ),
        pytest.param(
            plus(sample("node_incomplete", node="worker-i-0003", provider_id="")),
            "the creation time or what can be allocated of Node worker-i-0003 is not shown: let kube-state-metrics",
            id="a Node that is not shown whole",
        ),
        pytest.param(
            valued("shown", 3, of="kube_node_status_condition"),
            "kube_node_status_condition is shown of 3 Nodes and there are 4",
            id="readiness of one Node is not shown",
        ),
        pytest.param(
            without("shown", of="kube_node_spec_unschedulable"),
            "kube_node_spec_unschedulable is shown of 0 Nodes",
            id="cordons are not shown",
        ),
        pytest.param(
            chain(plus(), lambda samples: counted([s for s in samples if s.metric[FAMILY] != "node"])),
            "no Node is shown, which no K3s cluster can be",
            id="no Nodes",
        ),
        pytest.param(
            lambda samples: counted([s for s in samples if s.metric[FAMILY] != "node_control_plane"]),
            "no Node is shown as a server, and Node server and 1 more may be one: let kube-state-metrics expose "
            "kube_node_role",
            id="roles are not shown",
        ),
        pytest.param(
            valued("source_nodes", 2),
            "4 Nodes are shown and no target shows more than 2 of them (instance=10.42.0.9:8080, "
            "job=kube-state-metrics): these are several clusters, or shards; select one cluster with metrics.matchers",
            id="two clusters or shards",
        ),
        pytest.param(
            plus(sample("node_twice", 2, node="server")),
            "several machines go by the name of Node server: two clusters are shown at once",
            id="two clusters that call a Node alike",
        ),
        pytest.param(
            chain(plus(node("server", "aws:///us-east-1c/i-0ccc"))),
            "several machines go by the name of Node server",
            id="a Node with two provider-ids",
        ),
        pytest.param(
            plus(sample("overwritten", 30)), "overwrites its labels (exported_pod): set honor_labels", id="label clash"
        ),
        pytest.param(
            plus(WAITS[2]), "pod shop/web waits and is not described", id="a waiting pod without kube_pod_info"
        ),
        pytest.param(
            plus(WAITS[0], WAITS[2]), "whether pod shop/web has finished is not shown: let", id="phases are not shown"
        ),
        pytest.param(
            plus(*UNBOUND, sample("pod_unschedulable", 1, **POD)),
            "since when pod shop/web waits is not shown: let kube-state-metrics (2.19 or newer) expose",
            id="since when is not shown",
        ),
        pytest.param(
            chain(plus(*WAITS), without("version")),
            "whether shop/web is held back by a scheduling gate is not shown: use kube-state-metrics 2.19",
            id="whether gates are shown is not known",
        ),
        pytest.param(
            plus(*WAITS, sample("shown", 40, of="kube_pod_status_reason_of_old")),
            "whether shop/web is held back by a scheduling gate is not shown",
            id="a version that does not show gates",
        ),
        pytest.param(
            plus(sample("pod_requests", 1, **POD, resource="gpu", part="app")),
            "pod_requests of web names resource 'gpu' and part 'app'",
            id="requests that are not understood",
        ),
    ],
)
def test_what_makes_the_cluster_unknown(spoil: Spoil, problem: str) -> None:
    snapshot = seen(spoil(HEALTHY))
    assert (snapshot.metrics_status, snapshot.cluster_known) == (PARTIAL, False)
    assert any(problem in told for told in snapshot.metrics_problems), snapshot.metrics_problems


@pytest.mark.parametrize("family", COUNTED)
def test_what_tells_exceptions_is_believed_only_whole(family: str) -> None:
    one = sample(family, NOW_S - 20, **POD, node="worker-i-0001", key="k", effect="NoSchedule")
    whole = list(plus(*WAITS, one)(HEALTHY))
    assert not seen(without("counted", of=family)(HEALTHY)).cluster_known, "not counted"
    assert not seen(uncounted(family)(whole)).cluster_known, "lost"
    twice = [*whole, Sample({**one.metric, "replica": "2"}, one.value)]
    assert not seen(twice).cluster_known, "doubled"


EXCEPTIONS = frozenset(
    {
        "node_incomplete",
        "node_not_ready",
        "node_cordoned",
        "node_taint",
        "node_managed",
        "node_unmeasured",
        "pod_unbound",
        "pod_pending",
        "pod_unschedulable",
        "pod_gated",
        "pod_deleting",
        "pod_unbound_long",
        "pod_requests",
        "ready_max",
        "ready_count",
        "volumes_of",
        "volumes_unplaced",
        "node_twice",
        "overwritten",
        "targets_down",
        "restarted",
        "scrape_interval",
        "version",
    }
)
"""A calm cluster has no rows of these; where they tell something, other tests show what becomes of their absence."""


@pytest.mark.parametrize("family", SIGHT_FAMILIES)
def test_a_family_that_never_comes_is_never_taken_for_all_being_well(family: str) -> None:
    """Whatever a store or a stand-in leaves out: as much is known as before, or less, and that is said."""
    plain = seen(HEALTHY)
    snapshot = seen([s for s in HEALTHY if s.metric[FAMILY] != family])
    said = bool(snapshot.metrics_problems or snapshot.unshown)
    windows = {"use", "use_grow_min", "use_grow_count", "use_shrink_max", "use_shrink_count"}
    if family in windows:
        assert any(u.now_low is None or u.grow_min is None or u.shrink_max is None for u in snapshot.utilisation)
    elif family in EXCEPTIONS:
        assert msgspec.structs.replace(snapshot, taken_at_s=plain.taken_at_s) == plain, "there was none of it"
    else:
        assert said, "never silently"


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        pytest.param(
            valued("evaluated_at", NOW_S - 38), "was last evaluated 38 s ago; at most 38 s", id="rules are stale"
        ),
        pytest.param(
            without("evaluated_at"),
            "the rule group utilisation was not evaluated: evaluated_at is",
            id="rules never ran",
        ),
        pytest.param(
            lambda samples: [*without("evaluated_at")(samples), sample("evaluated_at", NOW_S, group="utilisation")],
            "does not tell its interval: render the rules anew",
            id="rules of an older version",
        ),
        pytest.param(valued("scraped_at", NOW_S - 38, **EXPORTER), "node-exporter was last scraped 38 s", id="stale"),
        pytest.param(
            without("scraped_at", **EXPORTER), "node-exporter is not scraped: no target of", id="never scraped"
        ),
        pytest.param(
            without("use", resource="memory"),
            "the memory use of the workers is not recorded although static-1 takes pods",
            id="the use is not recorded",
        ),
        pytest.param(
            plus(sample("targets_down", 1, **KSM)),
            "1 target(s) of kube-state-metrics do not answer, and what only they show is missing",
            id="one of two kube-state-metrics is down",
        ),
        pytest.param(
            plus(sample("restarted", 1, **KSM)), "kube-state-metrics restarted less than 60 s", id="restarted"
        ),
        pytest.param(valued("use_shrink_max", "NaN"), "use_shrink_max holds 'NaN'", id="NaN"),
        pytest.param(valued("use", "-"), "use holds '-', which is not a finite number", id="garbage"),
        pytest.param(
            chain(
                plus(*(sample("node_unmeasured", 1, node="worker-i-0001", resource=r) for r in ("cpu", "memory"))),
                valued("counted", 6, of="node_unmeasured"),
            ),
            "the cpu use of worker-i-0001 is not measured (and 5 more like it): it just joined, or node-exporter does",
            id="workers are not measured",
        ),
        pytest.param(
            plus(*UNBOUND, sample("pod_unbound_long", **POD)),
            "pod shop/web has had no Node for a minute and nothing says why: let kube-state-metrics expose "
            "kube_pod_status_unschedulable",
            id="unschedulable pods are not shown",
        ),
        pytest.param(
            chain(
                plus(
                    sample("node_not_ready", 0, node="worker-i-0001"),
                    sample("ready_max", 0, node="worker-i-0001"),
                    sample("ready_count", 20, node="worker-i-0001"),
                )
            ),
            "no taint is shown although worker-i-0001 is NotReady",
            id="taints are not shown",
        ),
    ],
)
def test_what_makes_the_picture_partial_with_the_cluster_known(spoil: Spoil, problem: str) -> None:
    snapshot = seen(spoil(HEALTHY))
    assert any(problem in told for told in snapshot.metrics_problems), snapshot.metrics_problems
    assert (snapshot.metrics_status, snapshot.cluster_known) == (PARTIAL, True)
    assert snapshot.absence_proven is not problem.startswith(("1 target(s) of kube-state", "kube-state-metrics rest"))


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(valued("scraped_at", NOW_S - 30, **KSM), id="as old as the policy allows"),
        pytest.param(
            chain(valued("scrape_interval", 30, **KSM), valued("scraped_at", NOW_S - 70, **KSM)),
            id="scraped every 30 s, as kube-prometheus-stack does: read from the series, not assumed",
        ),
        pytest.param(
            chain(
                without("evaluated_at"),
                plus(sample("evaluated_at", NOW_S - 59, group="utilisation", interval_s="30")),
                valued("use_grow_count", 2),
                valued("use_shrink_count", 20),
            ),
            id="rules at another interval than the policy's",
        ),
        pytest.param(plus(*WAITS), id="a pod waits"),
        pytest.param(plus(*WAITS, sample("pod_gated", **POD)), id="a gated pod"),
        pytest.param(plus(*UNBOUND), id="a pod that was not judged yet"),
        pytest.param(
            plus(*WAITS, sample("pod_unbound_long", namespace="shop", pod="other", uid="o")),
            id="a pod of another scheduler, where unschedulable pods are shown",
        ),
        pytest.param(plus(sample("targets_down", 1, **EXPORTER)), id="node-exporter of a machine that is no worker"),
        pytest.param(plus(sample("source_nodes", 4, instance="b")), id="a replica that shows the same"),
        pytest.param(plus(sample("source_nodes", 3, instance="b")), id="a new replica that has not seen all yet"),
        pytest.param(
            chain(without("version"), plus(*WAITS, sample("shown", 3, of="kube_node_spec_pod_cidrs"))),
            id="a family of 2.20 stands in for its version",
        ),
        pytest.param(
            chain(without("version"), plus(*WAITS, sample("shown", 0, of="kube_pod_status_reason"))),
            id="gates are shown of every pod (2.19)",
        ),
    ],
)
def test_what_is_whole_and_fresh_enough(spoil: Spoil) -> None:
    snapshot = seen(spoil(HEALTHY))
    assert (snapshot.metrics_problems, snapshot.metrics_status) == ((), OK)


@pytest.mark.parametrize(
    ("version", "enough"),
    [
        ("v2.20.0", True),
        ("v2.21.1-rc.0", True),
        ("v3.0.0", True),
        ("v2.18.0", False),
        ("v2.9.9", False),
        ("dev", False),
    ],
)
def test_versions_of_kube_state_metrics(version: str, enough: bool) -> None:
    answer = chain(without("version"), plus(*WAITS, sample("version", version=version)))(HEALTHY)
    assert seen(answer).cluster_known is enough


@pytest.mark.parametrize(("apart_s", "known"), [(300, True), (-300, True), (301, False), (-301, False)])
def test_clocks_that_differ(apart_s: int, known: bool) -> None:
    """An answer that is minutes off is somebody's cache."""
    assert seen(HEALTHY, now_s=NOW_S + apart_s).cluster_known is known


@pytest.mark.parametrize(
    "answer",
    [pytest.param([], id="an empty vector"), pytest.param(MetricsUnavailable("connection refused"), id="no answer")],
)
def test_no_answer_is_unavailable_and_nothing_is_made_up(answer: Any) -> None:
    snapshot = assemble(answer, fleet(), (), state=State(), cluster_id=CLUSTER_ID, policy=POLICY, now_s=NOW_S)
    assert (snapshot.metrics_status, snapshot.cluster_known) == (UNAVAILABLE, False)
    assert (snapshot.metrics_at_s, snapshot.nodes, snapshot.pods, snapshot.utilisation) == (None, (), (), ())
    assert len(snapshot.instances) == len(fleet())
    assert len(snapshot.metrics_problems) == 1


def test_every_other_row_alone_is_never_a_known_cluster() -> None:
    for spoiled in (HEALTHY[::2], HEALTHY[1::2], HEALTHY[:-10], HEALTHY[10:]):
        assert not seen(spoiled).cluster_known


# ------------------------------------------------------------------------------------------------ the policy's windows


@pytest.mark.parametrize(
    ("policy", "name"),
    [
        pytest.param(Policy(version=1, scale_up=ScaleUp(window_s=45)), "scale_up.window_s is 45 s", id="grow"),
        pytest.param(Policy(version=1, scale_down=ScaleDown(window_s=59)), "scale_down.window_s is 59 s", id="shrink"),
        pytest.param(Policy(version=1, repair=Repair(not_ready_s=30)), "repair.not_ready_s is 30 s", id="repair"),
    ],
)
def test_a_window_shorter_than_two_real_intervals_is_told(policy: Policy, name: str) -> None:
    slow = chain(without("evaluated_at"), plus(sample("evaluated_at", NOW_S, group="utilisation", interval_s="30")))(
        HEALTHY
    )
    problems = [told for told in seen(slow, policy=policy).metrics_problems if "a window holds at least two" in told]
    assert [name in told for told in problems] == [True]
