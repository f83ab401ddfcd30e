"""Observed or paused, a cluster is left alone: whatever happens in it, only reads, and the state stays as it was."""

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from autoscaler.model import Mode, ModeSetting, Notice, Trigger, Verb
from autoscaler.policy import Policy
from autoscaler.simulator.cluster import SimCluster
from autoscaler.state.modes import set_mode
from tests.reconcile.conftest import deployment

READS = frozenset({"query", "describe", "launch_context", "result", "load", "rules"})
ASKED = frozenset({"send", "keep_rules"})
"""A server is asked for rules, and its answer is kept: that changes nothing in the cluster."""
TOLD = frozenset({"record", "notify"})
"""A refusal is told while observing, once; and that it was told is saved."""
HAPPENINGS = ("pods wait", "idle", "a worker breaks", "a worker dies", "EC2 gives notice", "blind", "a drain is open")


def _happen(cluster: SimCluster, what: str) -> tuple[Notice, ...]:
    victim = cluster.workers()[0] if cluster.workers() else ""
    if what == "pods wait":
        cluster.apply(deployment("web", 12))
    elif what == "idle":
        cluster.run(1500)
    elif what == "a worker breaks" and f"worker-{victim}" in cluster.world.state.nodes:
        cluster.world.break_node(f"worker-{victim}")
        cluster.run(600)
    elif what == "a worker dies" and victim:
        cluster.ec2.end(victim)
        cluster.run(600)
    elif what == "EC2 gives notice":
        return (Notice(kind="interruption", subject=victim, received_at_s=int(cluster.now_s)),)
    elif what == "blind":
        cluster.metric_faults.down = True
        return (Notice(kind="blind_alert", subject="a@b", received_at_s=int(cluster.now_s)),)
    return ()


@settings(max_examples=25)
@given(
    st.sampled_from([Mode.OBSERVE, Mode.PAUSED]),
    st.booleans(),
    st.lists(st.sampled_from(HAPPENINGS), min_size=1, max_size=4),
)
def test_nothing_is_touched(mode: Mode, by_hand: bool, happenings: list[str]) -> None:
    cluster = SimCluster(Policy(version=1), workers=3)
    if "a drain is open" in happenings:
        cluster.run(1500)
        cluster.sweep()
        assert cluster.state.removals
    if by_hand:
        state = set_mode(cluster.state, ModeSetting(mode=mode, set_at_s=0))
        cluster.item.data, cluster.item.version = msgspec.json.encode(state), cluster.item.version + 1
    else:
        cluster.policy = msgspec.structs.replace(cluster.policy, mode=mode)
    calls: set[tuple[str, str]] = set()

    def hook(service: str, name: str, _when: str) -> None:
        calls.add((service, name))

    cluster.wires.hook = hook
    for what in happenings:
        facts = _happen(cluster, what)
        bill = (cluster.ec2.bill.launched, cluster.ec2.bill.terminated)
        before, commands = cluster.state, len(cluster.ssm.sent)
        document = cluster.sweep(trigger=Trigger(kind="lifecycle"), facts=facts)
        assert document["mode"] == mode
        assert (cluster.ec2.bill.launched, cluster.ec2.bill.terminated) == bill
        sent = [command.verb for command, _, _ in list(cluster.ssm.sent.values())[commands:]]
        assert set(sent) <= ({Verb.RULES} if mode is Mode.OBSERVE else set()), "a question changes nothing"
        after = cluster.state
        kept = [n for n in facts if n.kind != "blind_alert"]
        expected = msgspec.structs.replace(
            before,
            notified=after.notified if mode is Mode.OBSERVE else before.notified,
            observed=after.observed if mode is Mode.OBSERVE else before.observed,
            told_refusal=after.told_refusal if mode is Mode.OBSERVE else before.told_refusal,
            unlisted_workers=after.unlisted_workers if mode is Mode.OBSERVE else before.unlisted_workers,
            seen_types=after.seen_types if mode is Mode.OBSERVE else before.seen_types,
            rules_question=after.rules_question if mode is Mode.OBSERVE else before.rules_question,
            rules_answered_at_s=after.rules_answered_at_s if mode is Mode.OBSERVE else before.rules_answered_at_s,
            notices=after.notices if kept else before.notices,
        )
        assert after == expected, "but for a notice, what was told, seen and asked, the state is as it was"
    effects = {name for _, name in calls} - READS - TOLD - ASKED
    assert effects <= {"save"}
    if mode is Mode.PAUSED:
        assert {service for service, _ in calls} <= {"dynamodb"}, "for the price of one read"
