"""A server is asked for the scheduler's rules: seldom, by one at a time, for as long as a look may wait."""

import itertools
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from autoscaler.asking.server import ACTING_S
from autoscaler.model import (
    Asks,
    CommandOutcome,
    CommandResult,
    Mode,
    ModeSetting,
    Notice,
    SchedulingRules,
    Trigger,
)
from autoscaler.policy import Policy, RulesPolicy
from autoscaler.simulator.cluster import SimCluster
from autoscaler.state.modes import set_mode
from autoscaler.state.notices import add_notices
from autoscaler.state.questions import SENT_WITHIN_S, SILENT_AFTER_S
from tests.reconcile.conftest import deployment
from tests.reconcile.servers import FIRST_ID, SECOND_ID, Servers, Wanting, look, rules_of, two_servers

POLICY = Policy(version=1)
WEB, BATCH = "shop/ReplicaSet/web", "shop/Job/batch"
ALERT = Trigger(kind="alert")
LIFECYCLE = Trigger(kind="lifecycle")
FAILED = CommandResult(outcome=CommandOutcome.FAILED, message="the script broke")

Want = Callable[..., Wanting]


@pytest.fixture
def servers() -> Servers:
    return Servers(two_servers(POLICY))


@pytest.fixture
def want(monkeypatch: pytest.MonkeyPatch) -> Want:
    def wanting(*owners: str, since_s: int = 0, more: Asks | None = None) -> Wanting:
        stand_in = Wanting(*owners, since_s=since_s, more=more)
        monkeypatch.setattr("autoscaler.reconcile.decide", stand_in)
        return stand_in

    return wanting


def told(document: dict[str, Any]) -> tuple[str, str]:
    return document["rules"], document["rules_problem"].removeprefix("what the scheduler asks is not known: ")


def kept(cluster: SimCluster) -> SchedulingRules:
    found = cluster.ports().store.rules()
    assert found is not None
    return found


def owners_in(cluster: SimCluster) -> list[str]:
    return sorted(owner.owner for owner in kept(cluster).owners)


def now(cluster: SimCluster) -> int:
    return int(cluster.now_s)


# -------------------------------------------------------------------------------------------------------- one question


def test_nobody_asks_where_no_decision_does(servers: Servers) -> None:
    document = look(servers)
    assert (document["rules"], document["rules_age_s"], servers.count) == ("not_asked", None, 0)
    assert ("dynamodb", "rules") not in servers.cluster.wires.log


def test_an_owner_without_rules_is_asked_for_and_known_in_the_same_look(servers: Servers, want: Want) -> None:
    stand_in = want(WEB)
    servers.tells(WEB, BATCH)
    asked_at_s = now(servers.cluster)
    document = look(servers)
    assert told(document) == ("known", "")
    assert (document["rules_age_s"], document["rules_left_out"], document["rules_malformed"]) == (0, 0, 0)
    assert servers.asked == [(0, FIRST_ID)]
    assert now(servers.cluster) - asked_at_s == 2, "it waits no longer than the answer takes"
    state = servers.cluster.state
    assert (state.rules_question, state.rules_answered_at_s) == (None, asked_at_s)
    assert state.lease is None
    assert owners_in(servers.cluster) == [BATCH, WEB]
    last = stand_in.seen[-1].scheduling_rules
    assert last is not None
    assert last == kept(servers.cluster)


def test_kept_rules_are_read_and_nobody_is_asked(servers: Servers, want: Want) -> None:
    servers.cluster.ports().store.keep_rules(msgspec.structs.replace(rules_of(WEB), answered_at_s=5))
    look(servers)
    want(WEB)
    version = servers.cluster.item.version
    servers.cluster.wires.log.clear()
    document = look(servers)
    assert (told(document), document["rules_age_s"]) == (("known", ""), now(servers.cluster) - 5)
    assert servers.cluster.wires.log.count(("dynamodb", "rules")) == 1
    assert (servers.count, servers.cluster.item.version) == (0, version)


def test_an_answer_that_takes_too_long_is_taken_by_the_next_look(servers: Servers, want: Want) -> None:
    want(WEB)
    servers.tells(WEB)
    servers.takes_s = 20.0
    began_s = servers.cluster.now_s
    document = look(servers, trigger=ALERT)
    assert told(document) == ("unknown", f"{FIRST_ID} was asked and has not answered yet")
    assert servers.cluster.now_s - began_s == POLICY.rules.wait_s
    servers.cluster.run(30)
    want()
    document = look(servers, trigger=LIFECYCLE)
    assert document["rules"] == "known", "the event of the command's end starts a look, which takes the answer"
    assert (servers.count, servers.cluster.state.rules_question) == (1, None)
    assert owners_in(servers.cluster) == [WEB]


def test_a_policy_may_forbid_to_wait(servers: Servers, want: Want) -> None:
    want(WEB)
    servers.tells(WEB)
    policy = msgspec.structs.replace(POLICY, rules=RulesPolicy(wait_s=0))
    began_s = servers.cluster.now_s
    assert look(servers, policy=policy)["rules"] == "unknown"
    assert servers.cluster.now_s == began_s
    servers.cluster.run(5)
    assert look(servers, policy=policy)["rules"] == "known"
    assert servers.count == 1


@pytest.mark.parametrize(("timeout_s", "waits_s"), [(13.0, 8), (12.5, 7), (12.0, None)])
def test_the_wait_never_eats_the_time_for_acting(
    servers: Servers, want: Want, timeout_s: float, waits_s: int | None
) -> None:
    want(WEB)
    servers.takes_s = 60.0
    began_s = servers.cluster.now_s
    document = look(servers, timeout_s=timeout_s)
    assert document["rules"] == "unknown"
    if waits_s is None:
        assert (servers.count, servers.cluster.now_s) == (0, began_s)
        assert "the time of this invocation is nearly up" in document["rules_problem"]
    else:
        assert servers.cluster.now_s - began_s == waits_s
        assert timeout_s - waits_s >= ACTING_S


def test_a_lease_that_is_taken_after_the_wait_lasts_beyond_the_invocation(servers: Servers, want: Want) -> None:
    want(WEB)
    servers.takes_s = 60.0
    servers.cluster.apply(deployment("web", 12))
    servers.cluster.run(15)
    leases: list[int] = []

    def hook(service: str, name: str, when: str) -> None:
        lease = servers.cluster.state.lease if servers.cluster.item.version else None
        if (service, name, when) == ("ec2", "launch", "before") and lease is not None:
            leases.append(lease.expires_at_s)

    servers.cluster.wires.hook = hook
    ends_at_s = servers.cluster.now_s + 30
    assert look(servers, trigger=ALERT)["action"] == "scale_up"
    assert leases
    assert leases[0] >= ends_at_s + 9


# --------------------------------------------------------------------------------------------------------- how often


def test_what_a_younger_answer_did_not_tell_is_not_asked_for_before_the_refresh(servers: Servers, want: Want) -> None:
    want(WEB, since_s=now(servers.cluster) - 15)
    assert told(look(servers)) == (
        "unknown",
        "a server was asked 2 s ago and did not tell; asked again in 598 s",
    )
    servers.cluster.run(400)
    assert look(servers)["rules"] == "unknown"
    assert servers.count == 1
    servers.cluster.run(200)
    servers.tells(WEB)
    assert look(servers)["rules"] == "known"
    assert servers.count == 2


def test_who_began_to_wait_after_the_answer_is_asked_for_at_once(servers: Servers, want: Want) -> None:
    want(WEB)
    servers.tells(WEB)
    look(servers)
    servers.cluster.run(60)
    servers.tells(WEB, BATCH)
    want(WEB, BATCH, since_s=now(servers.cluster) - 10)
    assert look(servers)["rules"] == "known"
    assert servers.count == 2
    want("shop/Job/later", since_s=0)
    assert look(servers)["rules"] == "unknown", "for what does not wait the refresh holds"
    assert servers.count == 2


def test_a_stranger_to_the_answer_waits_no_second_time_in_one_look(servers: Servers, want: Want) -> None:
    want(WEB, since_s=now(servers.cluster))
    began_s = servers.cluster.now_s
    look(servers)
    assert servers.cluster.now_s - began_s == servers.takes_s


# ------------------------------------------------------------------------------------------------------------- failures


def test_a_server_that_takes_no_command_is_followed_by_the_next_at_once(servers: Servers, want: Want) -> None:
    want(WEB)
    servers.tells(WEB)
    servers.refused.add(FIRST_ID)
    assert look(servers)["rules"] == "known"
    assert servers.asked == [(0, FIRST_ID), (0, SECOND_ID)]


GARBAGE = CommandResult(outcome=CommandOutcome.SUCCEEDED, rules="H4sIAnothing")
NOT_TOLD = CommandResult(outcome=CommandOutcome.SUCCEEDED)


@pytest.mark.parametrize(
    "said",
    [
        FAILED,
        CommandResult(outcome=CommandOutcome.API_UNREACHABLE, message="no answer"),
        CommandResult(outcome=CommandOutcome.UNDELIVERED, rule="DeliveryTimedOut"),
        CommandResult(outcome=CommandOutcome.REFUSED, rule="late"),
        GARBAGE,
        NOT_TOLD,
    ],
    ids=["failed", "api", "undelivered", "late", "garbage", "nothing"],
)
def test_a_server_that_does_not_tell_is_followed_by_the_next(servers: Servers, want: Want, said: CommandResult) -> None:
    want(WEB)
    servers.tells(WEB)
    servers.says[FIRST_ID] = said
    assert look(servers)["rules"] == "known"
    assert [server for _, server in servers.asked] == [FIRST_ID, SECOND_ID]
    assert servers.cluster.state.rules_question is None


def test_rounds_of_failures_become_rarer(servers: Servers, want: Want) -> None:
    want(WEB)
    servers.says[""] = FAILED
    servers.takes_s = 0.0
    document = look(servers)
    assert told(document) == (
        "unknown",
        f"{SECOND_ID} did not tell: failed the script broke; asked again in 60 s",
    )
    for _ in range(400):
        servers.cluster.run(60)
        assert look(servers)["rules"] == "unknown"
    rounds = [at_s for at_s, server in servers.asked if server == FIRST_ID]
    assert [later - earlier for earlier, later in itertools.pairwise(rounds)][:8] == [
        pytest.approx(gap, abs=63) for gap in (60, 120, 240, 480, 960, 1920, 3600, 3600)
    ]
    assert [server for _, server in servers.asked] == [FIRST_ID, SECOND_ID] * len(rounds)
    servers.tells(WEB)
    servers.cluster.run(3600)
    assert look(servers)["rules"] == "known"
    assert servers.cluster.state.rules_question is None


def test_without_a_server_nothing_is_asked_and_nothing_written(servers: Servers, want: Want) -> None:
    want(WEB)
    for server in (FIRST_ID, SECOND_ID):
        servers.cluster.ec2.end(server)
    servers.cluster.run(60)
    version = servers.cluster.item.version
    look(servers)
    assert told(look(servers)) == ("unknown", "no server of the cluster is running")
    assert (servers.count, servers.cluster.state.rules_question) == (0, None)
    assert servers.cluster.item.version - version <= 1, "but for what the first look notes"


def test_a_server_that_says_nothing_is_given_up(servers: Servers, want: Want) -> None:
    want(WEB)
    servers.takes_s = 1e9
    look(servers)
    servers.cluster.run(SILENT_AFTER_S - 20)
    assert told(look(servers)) == ("unknown", f"{FIRST_ID} was asked and has not answered yet")
    servers.cluster.run(30)
    servers.takes_s = 1.0
    servers.silent.add(FIRST_ID)
    servers.tells(WEB)
    assert look(servers)["rules"] == "known"
    assert [server for _, server in servers.asked] == [FIRST_ID, SECOND_ID]


def test_a_server_that_is_gone_is_not_waited_for(servers: Servers, want: Want) -> None:
    want(WEB)
    servers.takes_s = 1e9
    look(servers)
    servers.cluster.ec2.end(FIRST_ID)
    servers.cluster.run(5)
    document = look(servers)
    assert told(document) == ("unknown", f"{SECOND_ID} was asked and has not answered yet")


# --------------------------------------------------------------------------------------------------- invocations beside


def test_who_looks_beside_does_not_ask_beside(servers: Servers, want: Want) -> None:
    """A second look begins while the first has announced its question, and while it waits."""
    want(WEB)
    servers.tells(WEB)
    beside: list[dict[str, Any]] = []

    def hook(service: str, name: str, when: str) -> None:
        if (service, name, when) == ("ssm", "send", "before"):
            servers.cluster.wires.hook = None
            beside.append(look(servers, trigger=ALERT))

    servers.cluster.wires.hook = hook
    first = look(servers)
    assert servers.count == 1
    assert beside[0]["rules"] == "unknown", "whoever is about to ask was killed, or is slow, for all it knows"
    assert first["rules"] == "known"
    servers.cluster.run(700)
    want(WEB, BATCH, since_s=now(servers.cluster))
    servers.tells(WEB, BATCH)

    def while_it_waits(service: str, name: str, when: str) -> None:
        if (service, name, when) == ("ssm", "result", "before"):
            servers.cluster.wires.hook = None
            beside.append(look(servers, trigger=ALERT))

    servers.cluster.wires.hook = while_it_waits
    assert look(servers)["rules"] == "known"
    assert beside[1]["rules"] == "known"
    assert servers.count == 2
    assert servers.cluster.state.rules_question is None


class Killed(Exception):
    pass


def killed_at(servers: Servers, service: str, name: str, when: str) -> None:
    def hook(*at: str) -> None:
        if at == (service, name, when):
            servers.cluster.wires.hook = None
            raise Killed

    servers.cluster.wires.hook = hook
    with pytest.raises(Killed):
        look(servers)


@pytest.mark.parametrize(
    ("at", "questions"),
    [
        (("dynamodb", "save", "before"), 1),
        (("dynamodb", "save", "after"), 1),
        (("ssm", "send", "before"), 1),
        (("ssm", "send", "after"), 2),
        (("ssm", "result", "before"), 1),
        (("dynamodb", "keep_rules", "before"), 1),
        (("dynamodb", "keep_rules", "after"), 1),
    ],
)
def test_whoever_asks_may_be_killed_anywhere(
    servers: Servers, want: Want, at: tuple[str, str, str], questions: int
) -> None:
    want(WEB)
    look(servers)  # what a first look notes is written
    servers.cluster.run(700)
    servers.asked.clear()
    servers.tells(WEB)
    killed_at(servers, *at)
    servers.cluster.run(SENT_WITHIN_S + 1)
    assert look(servers, trigger=LIFECYCLE)["rules"] == "known"
    assert servers.count == questions
    assert servers.cluster.state.rules_question is None


def test_a_look_whose_state_somebody_else_changed_meanwhile_begins_anew(servers: Servers, want: Want) -> None:
    servers.cluster.apply(deployment("web", 12))
    servers.cluster.run(15)
    pod = next(pod for pod in servers.cluster.world.pods if pod.namespace == "shop")
    owner = f"shop/ReplicaSet/{pod.name.rpartition('-')[0]}"
    want(owner)
    servers.tells(owner)
    store = servers.cluster.ports().store
    fact = Notice(kind="rebalance", subject="i-1", received_at_s=now(servers.cluster))

    def hook(service: str, name: str, when: str) -> None:
        if (service, name, when) == ("ssm", "result", "before"):
            servers.cluster.wires.hook = None
            state, version = store.load()
            store.save(add_notices(state, (fact,)), version)

    servers.cluster.wires.hook = hook
    document = look(servers, trigger=ALERT)
    assert (document["action"], document["rules"], servers.count) == ("scale_up", "known", 1)
    assert [n.subject for n in servers.cluster.state.notices] == ["i-1"], "what it wrote is not lost"
    assert servers.cluster.wires.totals["ec2", "describe"] == 2


# ----------------------------------------------------------------------------------------------------- modes, the table


def in_mode(cluster: SimCluster, mode: Mode) -> None:
    store = cluster.ports().store
    state, version = store.load()
    store.save(set_mode(state, ModeSetting(mode=mode, set_at_s=0)), version)


def test_an_observed_cluster_asks_and_a_paused_one_does_not(servers: Servers, want: Want) -> None:
    want(WEB)
    servers.tells(WEB)
    in_mode(servers.cluster, Mode.PAUSED)
    assert (look(servers)["rules"], servers.count) == ("not_asked", 0)
    in_mode(servers.cluster, Mode.OBSERVE)
    assert (look(servers)["rules"], servers.count) == ("known", 1)


def test_a_pause_that_comes_while_it_wants_to_ask_is_obeyed(servers: Servers, want: Want) -> None:
    want(WEB)

    def hook(service: str, name: str, when: str) -> None:
        if (service, name, when) == ("dynamodb", "rules", "before"):
            servers.cluster.wires.hook = None
            in_mode(servers.cluster, Mode.PAUSED)

    servers.cluster.wires.hook = hook
    assert told(look(servers)) == ("unknown", "another invocation changed the state meanwhile")
    assert (servers.count, servers.cluster.state.rules_question) == (0, None)


@pytest.mark.parametrize("name", ["rules", "keep_rules"])
def test_a_table_that_fails_costs_the_rules_and_no_look(servers: Servers, want: Want, name: str) -> None:
    want(WEB)
    servers.tells(WEB)
    servers.cluster.fail("dynamodb", name)
    document = look(servers)
    if name == "rules":
        assert document["rules"] == "unknown"
        assert "dynamodb rules failed" in document["rules_problem"]
    else:
        assert document["rules"] == "known", "what could not be kept is used all the same"
        assert servers.cluster.state.rules_question is not None, "and its question stays open"
        assert servers.cluster.item.rules == b""
    assert look(servers)["rules"] == "known"
    assert servers.count == 1
    assert owners_in(servers.cluster) == [WEB]
    assert servers.cluster.state.rules_question is None


def test_a_state_that_cannot_be_written_costs_the_rules_and_no_look(servers: Servers, want: Want) -> None:
    want(WEB)
    look(servers)
    servers.cluster.run(700)
    servers.tells(WEB)
    servers.cluster.fail("dynamodb", "save")
    document = look(servers)
    assert document["rules"] == "unknown"
    assert "the question could not be kept" in document["rules_problem"]
    assert servers.count == 1
    servers.cluster.fail("dynamodb", "save", after_effect=True)
    assert look(servers)["rules"] == "known", "a write whose answer was lost was one"
    assert servers.count == 2


def test_a_record_that_does_not_decode_is_asked_for_anew(servers: Servers, want: Want) -> None:
    want(WEB)
    servers.tells(WEB)
    look(servers)
    servers.cluster.run(60)
    servers.cluster.item.rules = b"\x00garbage"
    servers.says[""] = FAILED
    document = look(servers)
    assert document["rules"] == "unknown"
    assert document["rules_problem"].startswith("what the scheduler asks is not known: The kept rules do not")
    assert document["rules_problem"].endswith("failed the script broke; asked again in 60 s")
    servers.cluster.run(60)
    servers.tells(WEB)
    assert look(servers)["rules"] == "known"
    assert owners_in(servers.cluster) == [WEB]


def test_an_old_answer_does_not_replace_a_younger_one(servers: Servers, want: Want) -> None:
    """It comes so late that another question was asked and answered meanwhile."""
    want(WEB)
    servers.tells(WEB)
    servers.takes_s = 1e9
    look(servers)
    younger = msgspec.structs.replace(rules_of(WEB, BATCH), answered_at_s=now(servers.cluster) + 50)
    servers.cluster.ports().store.keep_rules(younger)
    servers.takes_s = 0.0
    servers.cluster.run(100)
    want(BATCH)
    assert look(servers)["rules"] == "known"
    assert kept(servers.cluster) == younger


# ---------------------------------------------------------------------------------------------------- what a sweep sees


@pytest.fixture
def settled(servers: Servers) -> Servers:
    """A server has told once, long enough ago to be asked again, and nothing new has come since."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("autoscaler.reconcile.decide", Wanting(WEB))
        servers.tells(WEB)
        assert look(servers)["rules"] == "known"
    servers.cluster.run(700)
    look(servers)
    servers.asked.clear()
    servers.cluster.wires.log.clear()
    return servers


def new_owner(servers: Servers, name: str = "web") -> None:
    servers.cluster.apply(deployment(name, 1, cpu_millicores=10))
    servers.cluster.run(15)


def test_a_calm_sweep_without_new_owners_makes_three_calls_and_no_write(settled: Servers) -> None:
    version = settled.cluster.item.version
    document = look(settled)
    assert sorted(settled.cluster.wires.log) == [("dynamodb", "load"), ("ec2", "describe"), ("prometheus", "query")]
    assert (document["rules"], settled.cluster.item.version) == ("not_asked", version)


def test_a_sweep_that_sees_a_new_owner_asks_and_does_not_wait(settled: Servers) -> None:
    new_owner(settled)
    began_s = settled.cluster.now_s
    document = look(settled)
    assert (document["action"], document["rules"]) == ("none", "not_asked")
    assert (settled.count, settled.cluster.now_s) == (1, began_s)
    settled.cluster.run(3)
    settled.tells(WEB, BATCH)
    assert look(settled, trigger=LIFECYCLE)["rules"] == "known", "the event of the command's end takes the answer"
    assert owners_in(settled.cluster) == [BATCH, WEB]
    settled.cluster.wires.log.clear()
    assert look(settled)["calls"] == {"dynamodb": 1, "ec2": 1, "prometheus": 1}
    assert settled.count == 1


def test_new_pods_of_known_owners_are_nothing_new(settled: Servers) -> None:
    new_owner(settled)
    look(settled)
    settled.cluster.run(700)
    look(settled)
    settled.cluster.world.scale("shop/web", 3)
    settled.cluster.run(15)
    look(settled)
    assert settled.count == 1


def test_new_owners_are_asked_for_once_in_a_refresh(settled: Servers) -> None:
    for number in range(30):
        new_owner(settled, f"web{number}")
        settled.cluster.run(105)
        look(settled)
    gaps = [later - earlier for (earlier, _), (later, _) in itertools.pairwise(settled.asked)]
    assert gaps == [600] * len(gaps)
    assert len(gaps) >= 4


@pytest.mark.parametrize("trigger", [ALERT, LIFECYCLE], ids=["alert", "lifecycle"])
def test_only_a_sweep_looks_ahead(settled: Servers, trigger: Trigger) -> None:
    new_owner(settled)
    look(settled, trigger=trigger)
    assert settled.count == 0


def test_where_nobody_ever_needed_rules_no_sweep_asks_for_them(servers: Servers) -> None:
    new_owner(servers)
    look(servers)
    assert (servers.count, servers.cluster.state.rules_question) == (0, None)


def test_owners_whose_age_is_not_shown_are_no_reason_and_that_is_told(settled: Servers) -> None:
    new_owner(settled)
    settled.cluster.metric_faults.missing.add("owner_youngest")
    document = look(settled)
    assert settled.count == 0
    assert document["metrics_status"] == "ok"
    assert "kube_pod_created" in document["metrics_unshown"][0]


def test_metrics_of_another_cluster_are_no_reason(settled: Servers) -> None:
    new_owner(settled)
    settled.cluster.metric_faults.foreign = True
    look(settled)
    assert settled.count == 0


def test_a_decision_waits_for_what_the_sweep_has_asked(settled: Servers, want: Want) -> None:
    new_owner(settled)
    want(BATCH, since_s=now(settled.cluster))
    settled.tells(WEB, BATCH)
    assert look(settled)["rules"] == "known"
    assert settled.count == 1


# ------------------------------------------------------------------------------------------------------------ the zones


def test_the_zones_of_the_launch_context_are_told(servers: Servers, want: Want) -> None:
    stand_in = want(more=Asks(zones=True))
    look(servers)
    assert stand_in.seen[-1].zones == ("us-east-1a", "us-east-1b")


def test_unknown_zones_are_unknown_and_asked_once_a_look(servers: Servers, want: Want) -> None:
    stand_in = want(more=Asks(zones=True))
    servers.cluster.fail("ec2", "launch_context", times=None)
    before = servers.cluster.wires.totals["ec2", "launch_context"]
    look(servers)
    assert stand_in.seen[-1].zones is None
    assert stand_in.seen[-1].zones_problem.startswith("where workers can be launched is not known: ec2 launch_context")
    assert servers.cluster.wires.totals["ec2", "launch_context"] == before + 1
