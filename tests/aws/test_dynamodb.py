"""The StateStore port on moto, and on the Stubber where moto answers otherwise than other tables do."""

from typing import Any

import msgspec
import pytest
from botocore.stub import ANY, Stubber

from autoscaler.aws.calls import Calls
from autoscaler.aws.clients import Clients
from autoscaler.aws.dynamodb import DynamoStateStore
from autoscaler.model import (
    LaunchOperation,
    LaunchRequest,
    Lease,
    Mode,
    ModeSetting,
    Notice,
    RemovalOperation,
    RemovalPhase,
    SchedulingRules,
    SpotReturn,
    State,
    ZoneJoins,
)
from autoscaler.model.rules import OwnerRules, PodRules
from autoscaler.observe.rules import pack_kept
from autoscaler.ports import Conflict, RulesMalformed, StateMalformed, StoreUnavailable
from tests.aws.table import STATE, create_tables

NOW = 1_700_000_000
FULL = State(
    fence=7,
    lease=Lease(owner="me", expires_at_s=NOW + 30),
    mode=ModeSetting(mode=Mode.OBSERVE, set_at_s=NOW, until_s=NOW + 60, by="ada"),
    launches=(
        LaunchOperation(
            operation_id="op1",
            created_at_s=NOW,
            reason="unschedulable_pods",
            request=LaunchRequest(
                client_token="op1", template_id="lt-1", template_version="3", count=1, overrides=(), tags=(("a", "b"),)
            ),
            instance_ids=("i-1",),
        ),
    ),
    removals=(
        RemovalOperation(
            operation_id="op2",
            created_at_s=NOW,
            reason="low_utilisation",
            instance_id="i-2",
            node_name="n2",
            provider_id="aws:///z/i-2",
            phase=RemovalPhase.DRAINING,
            phase_since_s=NOW,
            fence=7,
            not_after_s=NOW + 300,
        ),
    ),
    notices=(Notice(kind="interruption", subject="i-3", received_at_s=NOW),),
    zones=(ZoneJoins(zone="z", failures=2, since_s=NOW - 900, failed_at_s=NOW - 300, until_s=NOW + 300),),
    spot_return=SpotReturn(instance_id="i-2", decision_id="op1", draining=True),
    last_scale_up_s=NOW - 50,
    last_scale_down_s=NOW - 90,
    node_count=4,
)


def store_of(clients: Clients, cluster_id: str = "demo") -> DynamoStateStore:
    return DynamoStateStore(clients, table=STATE, cluster_id=cluster_id, history_days=30, wall_clock=lambda: NOW + 0.9)


@pytest.fixture
def store(clients: Clients, _moto: None) -> DynamoStateStore:
    create_tables(clients)
    return store_of(clients)


def stored(clients: Clients) -> dict[str, Any]:
    key = {"cluster_id": {"S": "demo"}, "record": {"S": "STATE"}}
    return dict(clients.dynamodb().get_item(TableName=STATE, Key=key)["Item"])


def test_nothing_stored_is_the_empty_state_at_version_0(store: DynamoStateStore, calls: Calls) -> None:
    calls.reset()
    assert store.load() == (State(), 0)
    assert calls.so_far() == {"dynamodb": 1}


def test_what_is_saved_is_loaded_and_shown_to_people_beside_it(store: DynamoStateStore, clients: Clients) -> None:
    assert store.save(State(), 0) == 1
    item = stored(clients)
    assert item["scaling_in_progress"] == {"BOOL": False}
    assert "node_count" not in item, "unknown is left out, not zero"
    assert "last_scale_time" not in item
    assert store.save(FULL, 1) == 2
    assert store.load() == (FULL, 2)
    item = stored(clients)
    assert item | {"document": None} == {
        "cluster_id": {"S": "demo"},
        "record": {"S": "STATE"},
        "version": {"N": "2"},
        "fence": {"N": "7"},
        "scaling_in_progress": {"BOOL": True},
        "last_updated": {"N": str(NOW)},
        "last_scale_time": {"N": str(NOW - 50)},
        "node_count": {"N": "4"},
        "document": None,
    }


def test_whoever_loses_the_compare_and_set_hears_of_it(store: DynamoStateStore) -> None:
    store.save(State(), 0)
    with pytest.raises(Conflict):
        store.save(FULL, 0)
    store.save(FULL, 1)
    with pytest.raises(Conflict):
        store.save(State(), 1)
    assert store.load() == (FULL, 2)


def test_clusters_do_not_meet(store: DynamoStateStore, clients: Clients) -> None:
    store.save(FULL, 0)
    assert store_of(clients, "other").load() == (State(), 0)


def test_a_write_that_was_sent_twice_is_one_success(store: DynamoStateStore) -> None:
    """The network repeats a request whose answer was lost: the second meets its own item."""
    assert store.save(FULL, 0) == 1
    assert store.save(FULL, 0) == 1
    later = msgspec.structs.replace(FULL, fence=8)
    assert store.save(later, 1) == 2
    assert store.save(later, 1) == 2
    with pytest.raises(Conflict):
        store.save(FULL, 1)


@pytest.mark.parametrize("own", [True, False])
def test_a_table_that_shows_no_old_item_is_read_again(clients: Clients, *, own: bool) -> None:
    document = msgspec.json.encode(FULL, order="deterministic").decode()
    item = {"document": {"S": document if own else "{}"}, "version": {"N": "5"}}
    with Stubber(clients.dynamodb()) as stub:
        stub.add_client_error(
            "put_item",
            "ConditionalCheckFailedException",
            expected_params={
                "TableName": STATE,
                "Item": ANY,
                "ConditionExpression": "#version = :expected",
                "ExpressionAttributeNames": {"#version": "version"},
                "ExpressionAttributeValues": {":expected": {"N": "4"}},
                "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
            },
        )
        stub.add_response(
            "get_item",
            {"Item": item},
            {
                "TableName": STATE,
                "Key": {"cluster_id": {"S": "demo"}, "record": {"S": "STATE"}},
                "ConsistentRead": True,
            },
        )
        if own:
            assert store_of(clients).save(FULL, 4) == 5
        else:
            with pytest.raises(Conflict):
                store_of(clients).save(FULL, 4)


@pytest.mark.parametrize(
    ("code", "status", "effect_unknown"),
    [
        ("ThrottlingException", 400, False),
        ("InternalServerError", 500, True),
        ("ResourceNotFoundException", 400, False),
    ],
)
def test_a_table_that_fails(clients: Clients, code: str, status: int, *, effect_unknown: bool) -> None:
    with Stubber(clients.dynamodb()) as stub:
        for call in ("put_item", "get_item"):
            stub.add_client_error(call, code, "as told", status)
        with pytest.raises(StoreUnavailable) as caught:
            store_of(clients).save(State(), 0)
        assert (caught.value.code, caught.value.effect_unknown) == (code, effect_unknown)
        with pytest.raises(StoreUnavailable):
            store_of(clients).load()


def test_a_state_that_is_too_large_is_refused_before_it_is_sent(store: DynamoStateStore, calls: Calls) -> None:
    notices = tuple(Notice(kind="interruption", subject=f"i-{place:017x}", received_at_s=NOW) for place in range(1000))
    store.save(State(), 0)
    calls.reset()
    with pytest.raises(StoreUnavailable, match="65536") as caught:
        store.save(State(notices=notices), 1)
    assert caught.value.effect_unknown is False
    assert calls.so_far() == {}
    assert store.load() == (State(), 1)


GOOD = {"version": {"N": "3"}, "document": {"S": "{}"}}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        pytest.param({"version": {"S": "3"}}, "`version`", id="version as text"),
        pytest.param({"version": {"N": "0"}}, "`version`", id="version 0"),
        pytest.param({"version": {"N": "1.5"}}, "`version`", id="half a version"),
        pytest.param({"document": {"M": {}}}, "`document`", id="document of another type"),
        pytest.param({"document": {"S": "{"}}, "does not decode", id="cut JSON"),
        pytest.param({"document": {"S": "[]"}}, "does not decode", id="a list"),
        pytest.param({"document": {"S": '{"fense": 1}'}}, "fense", id="an unknown field"),
        pytest.param(
            {"document": {"S": '{"lease": {"owner": "a", "expires_at_s": 1, "since_s": 0}}'}},
            "since_s",
            id="further in",
        ),
        pytest.param({"document": {"S": '{"fence": "1"}'}}, r"\$\.fence", id="a wrong type"),
        pytest.param(
            {"document": {"S": '{"mode": {"mode": "asleep", "set_at_s": 1}}'}}, r"\$\.mode\.mode", id="a mode"
        ),
        pytest.param({"document": {"S": '{"schema": 2}'}}, "schema 2", id="a newer program's"),
    ],
)
def test_a_malformed_item_is_an_error_and_stays_as_it_is(
    store: DynamoStateStore, clients: Clients, change: dict[str, Any], says: str
) -> None:
    item: dict[str, Any] = {"cluster_id": {"S": "demo"}, "record": {"S": "STATE"}, **GOOD, **change}
    clients.dynamodb().put_item(TableName=STATE, Item=item)
    with pytest.raises(StateMalformed, match=says):
        store.load()
    assert stored(clients) == item


def test_the_users_bare_flag_is_not_taken_for_a_state(store: DynamoStateStore, clients: Clients) -> None:
    item: dict[str, Any] = {
        "cluster_id": {"S": "demo"}, "record": {"S": "STATE"}, "scaling_in_progress": {"BOOL": True}
    }  # fmt: skip
    clients.dynamodb().put_item(TableName=STATE, Item=item)
    with pytest.raises(StateMalformed):
        store.load()


def test_the_history_is_read_newest_first_and_expires(store: DynamoStateStore, clients: Clients) -> None:
    store.save(FULL, 0)
    for place in range(250):
        store.record(
            NOW + place, f"id{place:03}", {"decision_id": f"id{place:03}", "action": "scale_up", "reason": "r"}
        )
    store.record(NOW, "id000", {"decision_id": "id000", "action": "scale_up", "reason": "r"})
    found = store.history(limit=230)
    assert [row["decision_id"] for row in found] == [f"id{place:03}" for place in range(249, 19, -1)]
    assert found[0]["decided_at"] == "2023-11-14T22:17:29Z"
    assert [row["decision_id"] for row in store.history(since_s=NOW + 248)] == ["id249", "id248"]
    assert len(store.history(limit=1000)) == 250
    key = {"cluster_id": {"S": "demo"}, "record": {"S": "DECISION#2023-11-14T22:13:20Z#id000"}}
    item = clients.dynamodb().get_item(TableName=STATE, Key=key)["Item"]
    assert item["expires_at"] == {"N": str(NOW + 30 * 86_400)}
    assert store.load() == (FULL, 1)


def test_a_huge_decision_is_recorded_without_its_lists_and_says_so(store: DynamoStateStore) -> None:
    blocked = [{"pod": f"shop/{place}", "reason": "x" * 80} for place in range(4000)]
    store.record(NOW, "id1", {"decision_id": "id1", "action": "none", "reason": "r", "blocked": blocked})
    (row,) = store.history()
    assert row["blocked"] == []
    assert "left_out" in row


# ---------------------------------------------------------------------------------------------------------------- rules

RULES_KEY = {"cluster_id": {"S": "demo"}, "record": {"S": "RULES"}}


def rules(answered_at_s: int, *owners: str) -> SchedulingRules:
    return SchedulingRules(
        answered_at_s=answered_at_s,
        owners=tuple(OwnerRules(owner=o, rules=PodRules(namespace="shop"), seen_at_s=answered_at_s) for o in owners),
    )


def test_rules_that_were_never_kept_are_none(store: DynamoStateStore) -> None:
    assert store.rules() is None


def test_what_is_kept_is_read_beside_the_state(store: DynamoStateStore, clients: Clients) -> None:
    store.save(FULL, 0)
    store.keep_rules(rules(NOW, "shop/Job/a", "shop/Job/ü-b"))
    assert store.rules() == rules(NOW, "shop/Job/a", "shop/Job/ü-b")
    assert store.load() == (FULL, 1)
    assert store_of(clients, "other").rules() is None
    item = clients.dynamodb().get_item(TableName=STATE, Key=RULES_KEY)["Item"]
    assert item.keys() == {"cluster_id", "record", "answered_at", "rules"}
    assert item["rules"] == {"B": pack_kept(rules(NOW, "shop/Job/a", "shop/Job/ü-b"))}
    assert store.history() == [], "it is no decision"


def test_younger_rules_stay(store: DynamoStateStore) -> None:
    """An invocation that was frozen for long keeps what a server told it long ago."""
    store.keep_rules(rules(NOW, "shop/Job/a"))
    store.keep_rules(rules(NOW - 1, "shop/Job/old"))
    assert store.rules() == rules(NOW, "shop/Job/a")
    store.keep_rules(rules(NOW, "shop/Job/a", "shop/Job/b"))
    assert store.rules() == rules(NOW, "shop/Job/a", "shop/Job/b"), "written twice, it is there once"


@pytest.mark.parametrize(
    "written",
    [{}, {"rules": {"S": "text"}}, {"rules": {"B": b""}}, {"rules": {"B": b"\x1f\x8bgarbage"}}],
    ids=["none", "text", "empty", "garbage"],
)
def test_rules_that_do_not_decode_are_told_and_replaced(
    store: DynamoStateStore, clients: Clients, written: dict[str, Any]
) -> None:
    clients.dynamodb().put_item(TableName=STATE, Item={**RULES_KEY, "answered_at": {"N": str(NOW)}, **written})
    with pytest.raises(RulesMalformed, match="the item RULES of demo in the table"):
        store.rules()
    store.keep_rules(rules(NOW + 1, "shop/Job/a"))
    assert store.rules() == rules(NOW + 1, "shop/Job/a")


@pytest.mark.parametrize("method", ["get_item", "put_item"])
def test_a_table_that_fails_to_read_or_keep_rules(clients: Clients, method: str) -> None:
    with Stubber(clients.dynamodb()) as stubber:
        stubber.add_client_error(method, "ProvisionedThroughputExceededException", http_status_code=400)
        store = store_of(clients)
        call = store.rules if method == "get_item" else lambda: store.keep_rules(rules(NOW))
        with pytest.raises(StoreUnavailable, match="the rules of demo"):
            call()
