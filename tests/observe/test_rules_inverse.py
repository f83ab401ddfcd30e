"""What the simulator answers to the verb `rules` is what is read: parse and answer are inverse to each other."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.model.rules import (
    Budget,
    Claim,
    MissingClaim,
    NodeSpec,
    Operator,
    OwnerRules,
    PodRules,
    PodTerm,
    SchedulingRules,
    Selector,
    WaitingClaim,
    WaitingWord,
)
from autoscaler.observe.kubernetes import api
from autoscaler.observe.kubernetes.pods import daemon_rules
from autoscaler.observe.rules import pack_kept, parse_rules, unpack_kept
from autoscaler.simulator.rules_answer import answer
from tests.decide.scheduling.clusters import ZONE
from tests.decide.scheduling.drawn import (
    CLAIMS,
    LABELS,
    NAMESPACES,
    VALUES,
    nodes,
    pods,
    selectors,
    several,
)

NOW_S = 1_793_520_000


@st.composite
def asked(draw: st.DrawFn, namespace: str) -> PodRules:
    """Rules as only an API server tells them: what stands on a Node is not what it asks, claims have names."""
    drawn = draw(pods(claims=False))
    claims = [_named(draw(CLAIMS), place, draw) for place in range(draw(st.integers(0, 2)))]
    # The smallest first: what is not there has no size.
    claims.sort(key=lambda claim: not isinstance(claim, MissingClaim))
    there = [claim for claim in claims if not isinstance(claim, MissingClaim)]
    return msgspec.structs.replace(
        drawn,
        namespace=namespace,
        node_name="",
        affinity=tuple(_as_told(term) for term in drawn.affinity),
        anti_affinity=tuple(_as_told(term) for term in drawn.anti_affinity),
        spread=tuple(
            msgspec.structs.replace(constraint, selector=_once(constraint.selector)) for constraint in drawn.spread
        ),
        claims=tuple(claims),
        scheduler=draw(st.sampled_from(["default-scheduler", "mine", 'a"b\\'])),
        priority=draw(st.integers(-5, 5)),
        preempts=draw(st.booleans()),
        resource_claims=draw(st.booleans()),
        exclusive_claims=bool(there) and draw(st.booleans()),
    )


def _as_told(term: PodTerm) -> PodTerm:
    return msgspec.structs.replace(term, selector=_once(term.selector), namespaces=tuple(sorted(term.namespaces)))


def _once(selector: Selector | None) -> Selector | None:
    """A line that says the same twice is told once."""
    return None if selector is None else tuple(dict.fromkeys(selector))


def _named(claim: Claim, place: int, draw: st.DrawFn) -> Claim:
    named = msgspec.structs.replace(claim, name=f"{place}-{draw(st.uuids())}")
    if isinstance(named, WaitingClaim):
        free = tuple(msgspec.structs.replace(volume, name=f"{draw(st.uuids())}") for volume in named.free)
        return msgspec.structs.replace(named, free=free, topologies=draw(several(selectors([Operator.IN]))))
    if hasattr(named, "zones"):
        return msgspec.structs.replace(named, zones=draw(st.just(()) | VALUES.map(lambda zone: ((ZONE, zone),))))
    return named


@st.composite
def owners(draw: st.DrawFn, kind: str, name: str) -> OwnerRules:
    namespace = draw(NAMESPACES)
    rules = draw(asked(namespace))
    as_a_whole: bool = draw(st.booleans())
    shown: tuple[tuple[str, int], ...] = ()
    if as_a_whole and rules.requests:
        whole = dict(rules.requests) | {"cpu": draw(st.integers(1, 3))}
        rules = msgspec.structs.replace(rules, requests=tuple(sorted(whole.items())))
        shown = tuple(sorted((whole | {"cpu": whole["cpu"] - 1}).items()))
    names: tuple[str, ...] = draw(
        st.just(()) | st.lists(st.sampled_from(["a", "b-0"]), min_size=1, unique=True).map(tuple)
    )
    return OwnerRules(owner=f"{namespace}/{kind}/{name}", rules=rules, pods=names, shown=shown, seen_at_s=NOW_S)


def _with_given_tolerations(daemon: OwnerRules) -> OwnerRules:
    """What the controller gives to every pod: they are told of once, however often they are parsed."""
    always = daemon_rules(api.Pod(spec=api.PodSpec()), namespace="").tolerations
    own = tuple(toleration for toleration in daemon.rules.tolerations if toleration not in always)
    rules = msgspec.structs.replace(daemon.rules, tolerations=own + always)
    return msgspec.structs.replace(daemon, rules=rules, pods=())


@st.composite
def answers(draw: st.DrawFn) -> SchedulingRules:
    named: list[NodeSpec] = [
        msgspec.structs.replace(draw(nodes()), name=f"n{place}", labels=draw(LABELS))
        for place in range(draw(st.integers(0, 3)))
    ]
    with_own_name = [
        msgspec.structs.replace(node, labels=(*node.labels, ("zz/own", node.name))) if draw(st.booleans()) else node
        for node in named
    ]
    return SchedulingRules(
        answered_at_s=NOW_S,
        owners=tuple(draw(owners("ReplicaSet", f"o{place}")) for place in range(draw(st.integers(0, 3)))),
        daemons=tuple(
            _with_given_tolerations(draw(owners("DaemonSet", f"d{place}"))) for place in range(draw(st.integers(0, 2)))
        ),
        nodes=tuple(with_own_name),
        namespaces=tuple((name, draw(LABELS)) for name in draw(st.sets(NAMESPACES).map(sorted))),
        budgets=tuple(
            Budget(namespace="shop", name=f"b{place}", selector=draw(st.none() | selectors()), allowed=place)
            for place in range(draw(st.integers(0, 2)))
        ),
        waiting=tuple(
            WaitingWord(
                pod=f"shop/p{place}",
                nominated_node=draw(st.sampled_from(["", "n0"])),
                message=draw(st.sampled_from(["", '0/3 nodes are available: "x"\n\t\\ ü'])),
            )
            for place in range(draw(st.integers(0, 2)))
        ),
    )


@given(told=answers())
def test_what_a_server_answers_and_what_is_kept_is_read_back(told: SchedulingRules) -> None:
    assert parse_rules(answer(told), answered_at_s=NOW_S) == told
    assert unpack_kept(pack_kept(told)) == told
