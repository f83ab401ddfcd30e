"""Small clusters and pods drawn by hypothesis: few names, so that rules meet."""

from hypothesis import strategies as st

from autoscaler.model.rules import (
    BoundClaim,
    Claim,
    Effect,
    FreeVolume,
    HostPort,
    ImmediateClaim,
    MissingClaim,
    NodeSpec,
    NodeTerm,
    Operator,
    PodRules,
    PodTerm,
    Requirement,
    Selector,
    SpreadConstraint,
    Taint,
    Toleration,
    WaitingClaim,
)
from tests.decide.scheduling.clusters import HOST, ZONE

KEYS = st.sampled_from(["app", "tier", "gen", ZONE, HOST])
VALUES = st.sampled_from(["", "a", "b", "1", "2", "ü", "x" * 63])
LABELS = st.dictionaries(KEYS, VALUES, max_size=3).map(lambda labels: tuple(sorted(labels.items())))
TOPOLOGIES = st.sampled_from([ZONE, HOST, "gen"])
NAMESPACES = st.sampled_from(["shop", "lab"])


def selectors(operators: list[Operator] | None = None) -> st.SearchStrategy[Selector]:
    return st.lists(
        st.builds(
            Requirement,
            KEYS,
            st.sampled_from(operators or [*Operator][:4]),
            st.lists(VALUES, max_size=2).map(tuple),
        ),
        max_size=2,
    ).map(tuple)


def several(strategy: st.SearchStrategy[object]) -> st.SearchStrategy[tuple[object, ...]]:
    return st.lists(strategy, max_size=2).map(tuple)


NODE_TERMS = several(st.builds(NodeTerm, labels=selectors([*Operator]), fields=selectors()))
POD_TERMS = several(
    st.builds(
        PodTerm,
        selector=st.none() | selectors(),
        topology_key=TOPOLOGIES,
        namespaces=several(NAMESPACES),
        namespace_selector=st.none() | selectors(),
    )
)
SPREADS = several(
    st.builds(
        SpreadConstraint,
        topology_key=TOPOLOGIES,
        max_skew=st.integers(1, 2),
        selector=st.none() | selectors(),
        min_domains=st.integers(1, 3),
        honor_affinity=st.booleans(),
        honor_taints=st.booleans(),
    )
)
TAINTS = st.builds(Taint, key=st.sampled_from(["only", "spot"]), value=VALUES, effect=st.sampled_from([*Effect]))
TOLERATIONS = st.builds(
    Toleration,
    key=st.sampled_from(["", "only", "node.kubernetes.io/unschedulable"]),
    any_value=st.booleans(),
    value=VALUES,
    effect=st.none() | st.sampled_from([*Effect]),
)
CLAIMS: st.SearchStrategy[Claim] = st.one_of(
    st.builds(MissingClaim, name=st.just("data")),
    st.builds(ImmediateClaim, name=st.just("data")),
    st.builds(BoundClaim, name=st.just("data"), node_affinity=st.none() | NODE_TERMS, zones=LABELS),
    st.builds(
        WaitingClaim,
        name=st.just("data"),
        provisioned=st.booleans(),
        topologies=several(selectors()),
        free=several(st.builds(FreeVolume, name=st.sampled_from(["v1", "v2"]), node_affinity=st.none() | NODE_TERMS)),
    ),
)
REQUESTS = st.dictionaries(st.sampled_from(["cpu", "memory", "example.com/gpu"]), st.integers(0, 3), max_size=2).map(
    lambda requests: tuple(sorted(requests.items()))
)


def pods(*, claims: bool = True) -> st.SearchStrategy[PodRules]:
    return st.builds(
        PodRules,
        namespace=NAMESPACES,
        labels=LABELS,
        requests=REQUESTS,
        node_name=st.sampled_from(["", "", "", "n0"]),
        node_selector=st.just(()) | LABELS,
        node_affinity=st.none() | NODE_TERMS,
        tolerations=several(TOLERATIONS),
        affinity=POD_TERMS,
        anti_affinity=POD_TERMS,
        spread=SPREADS,
        host_ports=several(st.builds(HostPort, port=st.sampled_from([80, 81]))),
        claims=several(CLAIMS) if claims else st.just(()),
    )


def nodes() -> st.SearchStrategy[NodeSpec]:
    """Without a name of its own yet."""
    return st.builds(
        NodeSpec,
        name=st.just(""),
        labels=LABELS,
        taints=several(TAINTS),
        unschedulable=st.booleans(),
        allocatable=st.just((("cpu", 4), ("example.com/gpu", 2), ("memory", 4), ("pods", 4))),
    )


SMALL_PODS = st.builds(
    PodRules,
    namespace=st.just("shop"),
    labels=st.sampled_from([(("app", "a"),), (("app", "b"),)]),
    requests=st.integers(1, 3).map(lambda cpu: (("cpu", cpu),)),
    affinity=st.just(()) | POD_TERMS,
    anti_affinity=st.just(()) | POD_TERMS,
    spread=st.just(()) | SPREADS,
)
"""Pods about which the cluster is asked, not the single node."""
