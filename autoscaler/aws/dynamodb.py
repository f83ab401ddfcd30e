"""DynamoDB: the `StateStore` port, and the history of decisions."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import msgspec
from botocore.exceptions import ClientError

from autoscaler.aws.clients import Clients
from autoscaler.aws.failures import error_code, told_as
from autoscaler.model import SchedulingRules, State
from autoscaler.observe.rules import BadRules, pack_kept, unpack_kept
from autoscaler.ports import Conflict, RulesMalformed, StateMalformed, StoreUnavailable
from autoscaler.state.size import STATE_LIMIT_BYTES, encoded

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef, PutItemInputTypeDef

STATE_RECORD: Final = "STATE"
RULES_RECORD: Final = "RULES"
DECISION_PREFIX: Final = "DECISION#"
HISTORY_LIMIT_BYTES: Final = 300 * 1024
"""DynamoDB's own limit is 400 KB an item."""
SCHEMA: Final = 1
FAR_S: Final = 253_402_300_799
"""The end of the year 9999: no record is later."""

_decoder: Final = msgspec.json.Decoder(State)


class DynamoStateStore:
    """One item a cluster with the whole state, changed by compare-and-set on its version.

    Beside it lie the rules that a server told, which are read only where a decision needs them, and the decisions.
    """

    def __init__(
        self,
        clients: Clients,
        *,
        table: str,
        cluster_id: str,
        history_days: int,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._clients = clients
        self._table = table
        self._cluster_id = cluster_id
        self._history_days = history_days
        self._wall_clock = wall_clock

    def load(self) -> tuple[State, int]:
        """Read consistently. (State(), 0) where no item exists. Raises StoreUnavailable, StateMalformed."""
        item = self._stored()
        return (State(), 0) if item is None else self._decoded(item)

    def save(self, state: State, expected_version: int) -> int:
        """Write if the version is still `expected_version`; returns the new one.

        Raises Conflict, StoreUnavailable (also for a state of more than 64 KB, which is not sent).
        A failed condition is a success when the item holds exactly what we wrote: something between us and the table
        sent the request twice (FACTS: an SDK's retry of a write that had landed reports ConditionalCheckFailed).
        """
        version = expected_version + 1
        document = encoded(state).decode()
        if len(document.encode()) > STATE_LIMIT_BYTES:
            raise StoreUnavailable(
                f"the state of {self._cluster_id} has {len(document.encode())} bytes and may have "
                f"{STATE_LIMIT_BYTES}: nothing was written; let open operations end, or pause and look at them",
                code="StateTooLarge",
            )
        request = self._write_request(state, document, version, expected_version)
        try:
            with told_as(StoreUnavailable, f"save the state of {self._cluster_id}"):
                self._clients.dynamodb().put_item(**request)
        except StoreUnavailable as error:
            if error.code != "ConditionalCheckFailedException":
                raise
            stored = _returned_item(error) or self._stored()
            if not _is(stored, document, version):
                raise Conflict(f"the state of {self._cluster_id} is no longer at version {expected_version}") from error
        return version

    def rules(self) -> SchedulingRules | None:
        """Read the kept rules consistently; None where none were ever kept. Raises StoreUnavailable, RulesMalformed."""
        item = self._stored(RULES_RECORD)
        if item is None:
            return None
        where = f"the item {RULES_RECORD} of {self._cluster_id} in the table {self._table}"
        packed = item.get("rules", {}).get("B")
        if not isinstance(packed, bytes):
            raise RulesMalformed(f"{where} has no `rules` (binary)")
        try:
            return unpack_kept(packed)
        except BadRules as error:
            raise RulesMalformed(f"{where} does not decode: {error}".rstrip(".")) from error

    def keep_rules(self, rules: SchedulingRules) -> None:
        """Keep these in the place of all that are older; younger ones stay. Raises StoreUnavailable."""
        try:
            with told_as(StoreUnavailable, f"keep the rules of {self._cluster_id}"):
                self._clients.dynamodb().put_item(
                    TableName=self._table,
                    Item={
                        "cluster_id": {"S": self._cluster_id},
                        "record": {"S": RULES_RECORD},
                        "answered_at": {"N": str(rules.answered_at_s)},
                        "rules": {"B": pack_kept(rules)},
                    },
                    ConditionExpression="attribute_not_exists(cluster_id) OR answered_at <= :answered_at",
                    ExpressionAttributeValues={":answered_at": {"N": str(rules.answered_at_s)}},
                )
        except StoreUnavailable as error:
            if error.code != "ConditionalCheckFailedException":
                raise

    def record(self, decided_at_s: int, decision_id: str, document: Mapping[str, Any]) -> None:
        """Append one decision to the history; the same decision twice is one. Raises StoreUnavailable."""
        with told_as(StoreUnavailable, f"record decision {decision_id}"):
            self._clients.dynamodb().put_item(
                TableName=self._table,
                Item={
                    "cluster_id": {"S": self._cluster_id},
                    "record": {"S": f"{DECISION_PREFIX}{_moment(decided_at_s)}#{decision_id}"},
                    "action": {"S": str(document.get("action", ""))},
                    "reason": {"S": str(document.get("reason", ""))},
                    "message": {"S": str(document.get("message", ""))},
                    "document": {"S": _bounded(document)},
                    "expires_at": {"N": str(decided_at_s + self._history_days * 86_400)},
                },
            )

    def history(self, *, since_s: int = 0, limit: int = 20) -> list[dict[str, Any]]:
        """Return the newest decisions first, at most `limit`, none older than `since_s`. Raises StoreUnavailable."""
        return list(islice(self.decisions(since_s=since_s), limit))

    def decisions(self, *, since_s: int, until_s: int = FAR_S) -> Iterator[dict[str, Any]]:
        """Yield the newest first, page by page, both ends included. Raises StoreUnavailable."""
        start: dict[str, Any] = {}
        while True:
            with told_as(StoreUnavailable, f"read the history of {self._cluster_id}"):
                page = self._clients.dynamodb().query(
                    TableName=self._table,
                    KeyConditionExpression="cluster_id = :cluster AND #record BETWEEN :first AND :last",
                    ExpressionAttributeNames={"#record": "record"},
                    ExpressionAttributeValues={
                        ":cluster": {"S": self._cluster_id},
                        ":first": {"S": f"{DECISION_PREFIX}{_moment(since_s)}"},
                        ":last": {"S": f"{DECISION_PREFIX}{_moment(until_s)}~"},
                    },
                    ScanIndexForward=False,
                    Limit=100,
                    **start,
                )
            for item in page.get("Items", []):
                yield {"decided_at": str(item["record"].get("S", "")).split("#")[1]} | _json_object(item)
            if "LastEvaluatedKey" not in page:
                return
            start = {"ExclusiveStartKey": page["LastEvaluatedKey"]}

    def _stored(self, record: str = STATE_RECORD) -> "dict[str, AttributeValueTypeDef] | None":
        with told_as(StoreUnavailable, f"read the {record.lower()} of {self._cluster_id}"):
            answer = self._clients.dynamodb().get_item(
                TableName=self._table,
                Key={"cluster_id": {"S": self._cluster_id}, "record": {"S": record}},
                ConsistentRead=True,
            )
        return answer.get("Item")

    def _decoded(self, item: "Mapping[str, AttributeValueTypeDef]") -> tuple[State, int]:
        where = f"the state item of {self._cluster_id} in the table {self._table}"
        advice = "nothing is done until it is mended or deleted (docs/operations.md)"
        version = item.get("version", {}).get("N", "")
        if not (version.isdecimal() and int(version) > 0):
            raise StateMalformed(f"{where} has no valid `version` (a positive whole number): {advice}")
        document = item.get("document", {}).get("S")
        if document is None:
            raise StateMalformed(f"{where} has no `document` (JSON text): {advice}")
        try:
            state = _decoder.decode(document)
        except (msgspec.MsgspecError, RecursionError) as error:
            raise StateMalformed(f"{where} does not decode: {error}; {advice}") from error
        if state.schema != SCHEMA:
            raise StateMalformed(f"{where} has schema {state.schema}, this program knows {SCHEMA}: {advice}")
        return state, int(version)

    def _write_request(self, state: State, document: str, version: int, expected_version: int) -> "PutItemInputTypeDef":
        scaled_at = max(state.last_scale_up_s or 0, state.last_scale_down_s or 0)
        item: dict[str, AttributeValueTypeDef] = {
            "cluster_id": {"S": self._cluster_id},
            "record": {"S": STATE_RECORD},
            "version": {"N": str(version)},
            "document": {"S": document},
            # For people and dashboards; never read to decide.
            "scaling_in_progress": {"BOOL": state.lease is not None},
            "last_updated": {"N": str(int(self._wall_clock()))},
            "fence": {"N": str(state.fence)},
        }
        if state.node_count is not None:
            item["node_count"] = {"N": str(state.node_count)}
        if scaled_at:
            item["last_scale_time"] = {"N": str(scaled_at)}
        request: PutItemInputTypeDef = {
            "TableName": self._table,
            "Item": item,
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }
        if expected_version == 0:
            return request | {"ConditionExpression": "attribute_not_exists(cluster_id)"}
        return request | {
            "ConditionExpression": "#version = :expected",
            "ExpressionAttributeNames": {"#version": "version"},
            "ExpressionAttributeValues": {":expected": {"N": str(expected_version)}},
        }


def _returned_item(error: StoreUnavailable) -> "Mapping[str, AttributeValueTypeDef] | None":
    """The item that a failed condition met: ALL_OLD puts it beside the error. Some emulators leave it out."""
    cause = error.__cause__
    if isinstance(cause, ClientError) and error_code(cause) == "ConditionalCheckFailedException":
        item: Mapping[str, AttributeValueTypeDef] | None = cause.response.get("Item")  # type: ignore[assignment]  # the stubs know no Item
        return item
    return None


def _is(item: "Mapping[str, AttributeValueTypeDef] | None", document: str, version: int) -> bool:
    return (
        item is not None
        and item.get("document", {}).get("S") == document
        and item.get("version", {}).get("N") == str(version)
    )


def _moment(at_s: int) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _bounded(document: Mapping[str, Any]) -> str:
    text = json.dumps(document, sort_keys=True)
    if len(text.encode()) <= HISTORY_LIMIT_BYTES:
        return text
    return json.dumps({**document, "blocked": [], "signals": [], "left_out": "blocked and signals: see the log"})


def _json_object(item: "Mapping[str, AttributeValueTypeDef]") -> dict[str, Any]:
    """A record that does not decode is shown as such: history is for people."""
    try:
        return msgspec.json.decode(item.get("document", {}).get("S", ""), type=dict[str, Any])
    except msgspec.MsgspecError as error:
        return {"action": "", "reason": "unreadable", "message": f"This record does not decode: {error}"}
