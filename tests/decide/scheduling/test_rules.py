"""Rules as values: label keys, and what the filters do not know."""

from typing import Any

import pytest

from autoscaler.model.rules import (
    BoundClaim,
    ImmediateClaim,
    Operator,
    PodRules,
    Requirement,
    Unmodelled,
    WaitingClaim,
    equal_to,
    unmodelled,
    with_label_keys,
)
from bench.verdict_cases import pod_rules

WEB = {"app": "web", "rev": "r1"}


@pytest.mark.parametrize(
    ("asks", "found"),
    [
        ({}, ()),
        ({"scheduler": "mine"}, (Unmodelled.OTHER_SCHEDULER,)),
        ({"resource_claims": True}, (Unmodelled.DYNAMIC_RESOURCES,)),
        ({"claims": (ImmediateClaim(name="c"),)}, ()),
        ({"claims": (BoundClaim(name="c"),)}, (Unmodelled.ATTACH_LIMITS,)),
        ({"claims": (WaitingClaim(name="c", provisioned=True),)}, (Unmodelled.ATTACH_LIMITS,)),
        ({"exclusive_claims": True}, (Unmodelled.EXCLUSIVE_CLAIM,)),
    ],
)
def test_what_is_not_modelled_is_named(asks: dict[str, Any], found: tuple[Unmodelled, ...]) -> None:
    assert unmodelled(PodRules(namespace="shop", **asks)) == found


def test_label_keys_take_the_pods_own_values() -> None:
    own = with_label_keys(equal_to({"app": "web"}), WEB, match_keys=["rev", "absent"])
    assert own == equal_to(WEB)
    assert with_label_keys(own, WEB, match_keys=["rev"]) == own, "merged by the API server already"
    others = with_label_keys((), WEB, mismatch_keys=["rev", "absent"])
    assert others == (Requirement("rev", Operator.NOT_IN, ("r1",)),)
    assert with_label_keys(None, WEB, match_keys=["rev"]) is None


def test_equal_rules_are_one_class() -> None:
    assert len({PodRules(namespace="shop", labels=(("app", "web"),)) for _ in range(3)}) == 1


def test_what_is_not_understood_is_no_default() -> None:
    metadata: dict[str, Any] = {"name": "p", "namespace": "shop"}
    for spec in (
        {"containers": [], "tolerations": [{"key": "gen", "operator": "Gt", "value": "3"}]},
        {"containers": [{"name": "c", "resources": {"requests": {"cpu": "lots"}}}]},
        {"containers": [], "tolerations": [{"key": "gen", "effect": "NoWay"}]},
    ):
        with pytest.raises(ValueError, match=r"Gt|lots|NoWay"):
            pod_rules({"metadata": metadata, "spec": spec})
