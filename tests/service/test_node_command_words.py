"""How a drain ends, by the real kubectl's words: pods before the API, and what is not understood is tried again."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.service.k3s_server import LONG_S, NODE, Server, budget, ended, pod, serving, until, zonal_volume
from tests.service.kube import status
from tests.service.kube.status import Refusal

EVICTION = "POST .*/eviction"
MEANT = {"reclaim": "true"}
"""No dry run: the first eviction is meant."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serving(tmp_path) as made:
        yield made


def at_the_cordon(server: Server, happens: Callable[[], object]) -> None:
    """Just before the drain's own cordon: the first patch is the dry run's."""
    written = f"PATCH /api/v1/nodes/{NODE}"
    server.cluster.before[written] = lambda: server.cluster.before.update({written: happens})


# --------------------------------------------------------------------------------------------------------------- pods


def test_a_pod_that_outlives_the_time_out_is_no_lost_api(server: Server) -> None:
    """`error when waiting for pod ... context deadline exceeded`."""
    result = ended(server.begin_stuck(timeoutSeconds="1"))
    assert result["outcome"] == "timed_out"
    assert 'error when waiting for pod "stuck"' in result["message"]
    assert not server.cordoned()


def test_a_finalizer_holds_a_pod_as_well(server: Server) -> None:
    server.cluster.add(pod("held", metadata={"finalizers": ["example.org/backup"]}))
    assert server.run("drain", timeoutSeconds="1")["outcome"] == "timed_out"


def test_a_budget_that_holds_to_the_end_is_told_apart(server: Server) -> None:
    """Only earlier lines name it: the last one says `global timeout reached`. It closes after the dry run."""
    server.cluster.add(
        pod("web-1", metadata={"labels": {"app": "web"}}), pod("web-2", metadata={"labels": {"app": "web"}})
    )
    server.cluster.budgets.append(budget("web", "web", allowed=1))
    result = server.run("drain", timeoutSeconds="2")
    assert (result["outcome"], result["evicted_pods"]) == ("blocked_by_budget", 1)
    assert "violate the pod's disruption budget" in result["message"]
    assert not server.cordoned()


def test_a_budget_is_graver_than_a_pod_that_will_not_end(server: Server) -> None:
    """`drain.force` may end what only takes its time, never what a budget holds."""
    server.cluster.add(pod("web"))
    server.cluster.budgets.append(budget("web", "web", allowed=0))
    result = ended(server.begin_stuck(timeoutSeconds="2", **MEANT))
    assert result["outcome"] == "blocked_by_budget"


def test_a_pod_that_an_overloaded_api_never_let_go_is_no_pod_that_takes_its_time(server: Server) -> None:
    server.cluster.add(pod("web"))
    server.fault(EVICTION, refusal=status.OVERLOADED, times=99)
    result = server.run("drain", timeoutSeconds="2", **MEANT)
    assert result["outcome"] == "api_unreachable"
    assert "too many requests" in result["message"]


def test_an_admission_refusal_is_no_lost_api_whatever_its_words(server: Server) -> None:
    """In the middle of a drain: it is undone, and told by its rule."""
    server.cluster.add(pod("db"))
    refusal = status.denied("connection refused by the guardian: unable to connect")
    at_the_cordon(server, lambda: server.fault(EVICTION, refusal=refusal))
    result = server.run("drain")
    assert (result["outcome"], result["rule"]) == ("refused", "admission")
    assert not server.cordoned()
    assert server.annotations() == {"fence": "7"}


def test_a_refused_eviction_is_graver_than_a_pod_that_will_not_end(server: Server) -> None:
    """A time-out may be forced."""
    server.cluster.add(pod("db"))
    server.fault("POST .*/pods/db/eviction", refusal=status.denied("not now"))
    result = ended(server.begin_stuck(timeoutSeconds="1", **MEANT))
    assert (result["outcome"], result["rule"]) == ("refused", "admission")


def test_a_refused_cordon_changes_nothing_and_is_judged_anew(server: Server) -> None:
    server.fault(f"PATCH /api/v1/nodes/{NODE}[?]fieldManager", refusal=status.denied("no cordons on a Friday"))
    result = server.run("drain")
    assert (result["outcome"], result["rule"]) == ("refused", "admission")
    assert server.run("drain")["outcome"] == "succeeded"


def test_a_pod_of_a_namespace_that_ends_is_waited_for(server: Server) -> None:
    """Its evictions are forbidden, also once it has gone by itself: until the namespace is gone too."""
    server.cluster.namespaces["preview"] = "Terminating"
    server.cluster.add(pod("web", namespace="preview"), pod("api"))
    drain = server.begin("drain", timeoutSeconds="2", **MEANT)
    until(lambda: server.evicted().count("web") == 1)
    server.cluster.remove("web")
    result = ended(drain)
    assert (result["outcome"], server.cluster.pod_names()) == ("succeeded", [])


def test_a_bare_pod_that_is_being_deleted_is_waited_for(server: Server) -> None:
    """kubectl will not touch it, and says so at once."""
    server.cluster.add(pod("debug", "", metadata={"deletionTimestamp": "2026-11-01T08:00:00Z"}), pod("api"))
    drain = server.begin("drain")
    until(server.cordoned)
    threading.Timer(0.5, lambda: server.cluster.remove("debug")).start()
    assert ended(drain)["outcome"] == "succeeded"
    assert server.evicted() == ["api"]


def test_a_bare_pod_that_comes_during_the_drain_gives_the_node_back(server: Server) -> None:
    server.cluster.add(pod("api"))
    server.cluster.after_eviction = lambda _: server.cluster.add(pod("debug", ""))
    result = server.run("drain")
    assert (result["outcome"], result["rule"]) == ("refused", "bare-pod")
    assert not server.cordoned()


def test_a_pod_that_outlived_its_daemon_set_is_named(server: Server) -> None:
    server.cluster.add(pod("agent", "DaemonSet"))
    result = server.run("drain", timeoutSeconds="1")
    assert (result["outcome"], result["rule"]) == ("refused", "bare-pod")
    assert "shop/agent" in result["message"]


# ---------------------------------------------------------------------------------------------------------------- API

WORDS = {
    "shutting down": status.SHUTTING_DOWN,
    "database is locked": status.LOCKED,
    "etcd's leader changed": status.LEADER_CHANGED,
    "503": status.STARTING,
    "429 of priority and fairness": status.OVERLOADED,
    "a webhook that is down": status.WEBHOOK_DOWN,
    "an admission plug-in that is not ready": status.forbidden("api", "not yet ready to handle request"),
    "words of next year": Refusal(418, "Teapot", "short and stout; refused"),
}


@pytest.mark.parametrize("words", WORDS.values(), ids=WORDS.keys())
def test_a_complaint_that_is_not_understood_is_tried_again_elsewhere(server: Server, words: Refusal) -> None:
    server.fault(f"GET /api/v1/nodes/{NODE}", refusal=words)
    result = server.run("drain")
    assert (result["outcome"], result["rule"]) == ("api_unreachable", "")
    assert server.cluster.writes == []


@pytest.mark.parametrize(
    "asked",
    ["GET /api/v1/persistentvolumes", "GET /api/v1/nodes[?]", "GET /api/v1/pods", "GET /api/v1/namesp", EVICTION],
)
def test_a_preflight_that_is_not_understood_refuses_nothing(server: Server, asked: str) -> None:
    server.cluster.volumes.append(zonal_volume())
    server.cluster.add(pod("api", namespace="preview", annotations={"karpenter.sh/do-not-disrupt": "true"}))
    server.cluster.namespaces["preview"] = "Terminating"
    server.fault(asked, refusal=status.LOCKED)
    assert server.run("preflight")["outcome"] == "api_unreachable"


@pytest.mark.parametrize("words", WORDS.values(), ids=WORDS.keys())
def test_kubectl_is_started_again_over_what_is_not_understood(server: Server, words: Refusal) -> None:
    server.cluster.add(pod("api"), pod("web"))
    server.fault(EVICTION, refusal=words)
    result = server.run("drain", **MEANT)
    assert (result["outcome"], result["evicted_pods"]) == ("succeeded", 2)


@pytest.mark.parametrize("words", [status.SHUTTING_DOWN, status.STARTING])
def test_it_is_started_again_while_it_waits_for_a_pod(server: Server, words: Refusal) -> None:
    drain = server.begin_stuck()
    server.fault("GET .*/pods/stuck", refusal=words)
    until(lambda: len(server.evicted()) == 2)
    server.cluster.remove("stuck")
    assert ended(drain)["outcome"] == "succeeded"


def test_a_restart_of_the_api_server_within_a_drain_is_outlived(server: Server) -> None:
    server.environment["NODE_COMMAND_POLL_S"] = "0.4"
    drain = server.begin_stuck()
    server.api.stop()
    threading.Event().wait(1.2)
    server.cluster.remove("stuck")
    server.cluster.add(pod("late"))
    server.api.start()
    assert ended(drain)["outcome"] == "succeeded"
    assert server.evicted() == ["stuck", "late"]


def test_an_api_that_stays_away_is_looked_for_elsewhere(server: Server) -> None:
    drain = server.begin_stuck()
    server.api.stop()
    assert ended(drain)["outcome"] == "api_unreachable"


def test_starting_again_ends_with_the_drains_own_time(server: Server) -> None:
    server.cluster.add(pod("api"))
    server.fault(EVICTION, refusal=status.LOCKED, times=LONG_S)
    result = server.run("drain", timeoutSeconds="1", **MEANT)
    assert result["outcome"] == "api_unreachable"
    assert "database is locked" in result["message"]


# ------------------------------------------------------------------------------------------------------ other hands


def test_a_persons_uncordon_during_the_drain_stands(server: Server) -> None:
    drain = server.begin_stuck()
    server.cordon(on=False)
    result = ended(drain)
    assert (result["outcome"], result["rule"]) == ("refused", "uncordoned-by-others")
    assert not server.cordoned()
    assert server.annotations() == {"fence": "7"}
    assert server.run("drain")["rule"] == "uncordoned-by-others", "a repeat is told the same"


def test_an_uncordon_is_seen_after_the_last_pod_too(server: Server) -> None:
    """Between two looks: kubectl had nothing more to do, and the scheduler uses the Node again."""
    server.environment["NODE_COMMAND_POLL_S"] = "5"
    server.cluster.add(pod("api"))

    def uncordon(_: object) -> None:
        server.cordon(on=False)
        server.cluster.add(pod("new-1"), pod("new-2"))

    server.cluster.after_eviction = uncordon
    result = server.run("drain")
    assert (result["outcome"], result["rule"]) == ("refused", "uncordoned-by-others")
    assert server.cluster.pod_names() == ["new-1", "new-2"]


def test_a_kubectl_that_closed_the_node_again_gives_it_back(server: Server) -> None:
    """Uncordoned before kubectl looked: it says `cordoned`, not `already cordoned`, and no look of ours sees it."""
    server.environment["NODE_COMMAND_POLL_S"] = "1"
    server.cluster.add(pod("api"))
    asked = f"GET /api/v1/nodes/{NODE}"
    at_the_cordon(server, lambda: server.cluster.before.update({asked: lambda: server.cordon(on=False)}))
    result = server.run("drain")
    assert (result["outcome"], result["rule"]) == ("refused", "uncordoned-by-others")
    assert not server.cordoned()


def test_an_uncordon_just_before_the_success_is_written_is_seen(server: Server) -> None:
    """The write that ends the drain is one over the Node that was looked at."""
    server.cluster.add(pod("api"))
    written = f"PATCH /api/v1/nodes/{NODE}"
    server.cluster.after_eviction = lambda _: server.cluster.before.update({written: lambda: server.cordon(on=False)})
    result = server.run("drain")
    assert (result["outcome"], result["rule"]) == ("refused", "uncordoned-by-others")


def test_a_reclaim_closes_the_node_again(server: Server) -> None:
    """The machine goes away whatever anybody says."""
    drain = server.begin_stuck(**MEANT)
    server.cordon(on=False)
    until(server.cordoned)
    server.cluster.remove("stuck")
    assert ended(drain)["outcome"] == "succeeded"
    assert server.annotations() == {"fence": "7", "operation": "op1"}


def test_pods_that_came_meanwhile_are_drained_as_well(server: Server) -> None:
    server.cluster.add(pod("api"))
    came: list[Callable[[], None]] = [lambda: server.cluster.add(pod("placed-by-name"))]
    server.cluster.after_eviction = lambda _: came.pop()() if came else None
    result = server.run("drain")
    assert (result["outcome"], result["evicted_pods"]) == ("succeeded", 2)
    assert server.cluster.pod_names() == []


def test_a_pod_that_tolerates_the_cordon_comes_back_for_ever_and_holds_nothing_up(server: Server) -> None:
    back = {"tolerations": [{"operator": "Exists"}]}
    server.cluster.add(pod("back-0", spec=back))
    server.cluster.after_eviction = lambda _: server.cluster.add(
        pod(f"back-{len(server.cluster.evictions)}", spec=back)
    )
    result = server.run("drain")
    assert (result["outcome"], result["evicted_pods"]) == ("succeeded", 1)


def test_pods_that_keep_coming_run_into_the_time_out(server: Server) -> None:
    waits = {"tolerations": [{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"}]}
    server.cluster.add(pod("new-0", spec=waits))
    server.cluster.after_eviction = lambda _: server.cluster.add(
        pod(f"new-{len(server.cluster.evictions)}", spec=waits)
    )
    result = server.run("drain", timeoutSeconds="2")
    assert result["outcome"] == "timed_out"
    assert "came to" in result["message"]
    assert not server.cordoned()
