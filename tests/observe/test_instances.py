"""DescribeInstances rows: what is ours, what is a server, what cannot be read."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from autoscaler.model import InstanceState
from autoscaler.observe.instances import look_up, parse_instances
from autoscaler.ports import FleetUnavailable
from tests.act.fakes import Fleet
from tests.decide.builders import snapshot, worker
from tests.observe.answers import CLUSTER_ID, NOW_S, row

OURS = {"ManagedBy": "autoscaler", "k3s-autoscaler/cluster": CLUSTER_ID}


@pytest.mark.parametrize(
    ("tags", "managed", "server"),
    [
        pytest.param(OURS, True, False, id="both tags: ours"),
        pytest.param({**OURS, "k3s-autoscaler/operation": "l1"}, True, False, id="with its operation"),
        pytest.param({"k3s-autoscaler/cluster": CLUSTER_ID}, False, False, id="the cluster's tag alone is not enough"),
        pytest.param({"ManagedBy": "autoscaler"}, False, False, id="nor is the other alone"),
        pytest.param({**OURS, "ManagedBy": "terraform"}, False, False, id="managed by somebody else"),
        pytest.param({**OURS, "ManagedBy": "Autoscaler"}, False, False, id="tags are case-sensitive"),
        pytest.param({**OURS, "k3s-autoscaler/cluster": "other"}, False, False, id="another cluster's"),
        pytest.param({**OURS, "aws:autoscaling:groupName": "g"}, False, False, id="of an Auto Scaling group"),
        pytest.param({**OURS, "k3s-autoscaler/role": "server"}, False, True, id="a server, whatever else it says"),
        pytest.param(
            {"k3s-autoscaler/role": "server", "k3s-autoscaler/cluster": "other"}, False, False, id="another's server"
        ),
        pytest.param({}, False, False, id="no tags"),
    ],
)
def test_what_is_ours(tags: dict[str, str], managed: bool, server: bool) -> None:
    [one] = parse_instances([row(Tags=tags)], CLUSTER_ID)
    assert (one.managed, one.server) == (managed, server)


def test_what_a_row_says() -> None:
    [one] = parse_instances([row(Tags={**OURS, "k3s-autoscaler/operation": "l1"})], CLUSTER_ID)
    assert (one.instance_id, one.state, one.instance_type) == ("i-0001", InstanceState.RUNNING, "t3.small")
    assert (one.zone, one.subnet_id, one.launched_at_s) == ("us-east-1a", "subnet-a", NOW_S - 7200 + 1)
    assert (one.operation_id, one.private_dns_name) == ("l1", "ip-10-0-1-9.ec2.internal")


@pytest.mark.parametrize(
    ("lifecycle", "market"),
    [
        pytest.param({}, "on-demand", id="none, as EC2 writes what is on demand"),
        pytest.param({"InstanceLifecycle": "spot"}, "spot", id="Spot"),
        pytest.param({"InstanceLifecycle": "capacity-block"}, "capacity-block", id="another, whose price nobody lists"),
    ],
)
def test_what_an_instance_is_paid_by(lifecycle: dict[str, Any], market: str) -> None:
    [one] = parse_instances([row(**lifecycle)], CLUSTER_ID)
    assert one.market == market


def test_a_terminated_row_has_no_subnet_any_more() -> None:
    ended = row(State={"Name": "terminated"})
    del ended["SubnetId"], ended["PrivateDnsName"]
    [one] = parse_instances([ended], CLUSTER_ID)
    assert (one.state, one.subnet_id) == (InstanceState.TERMINATED, "")


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        pytest.param(..., "", id="none given, as of a running one"),
        pytest.param(None, "", id="null"),
        pytest.param({}, "", id="empty"),
        pytest.param(
            {"Code": "Client.InternalError", "Message": "Client.InternalError: Client error on launch"},
            "Client.InternalError: Client error on launch",
            id="EC2's words begin with its code",
        ),
        pytest.param(
            {"Code": "Client.InvalidKMSKey.InvalidState", "Message": "The KMS key provided is\n in an incorrect state"},
            "Client.InvalidKMSKey.InvalidState: The KMS key provided is in an incorrect state",
            id="they do not",
        ),
        pytest.param({"Code": "Server.InsufficientInstanceCapacity"}, "Server.InsufficientInstanceCapacity", id="code"),
        pytest.param({"Code": "Server.X", "Message": None}, "Server.X", id="no words"),
        pytest.param({"Code": "x" * 900, "Message": "y"}, "x" * 200, id="bounded"),
    ],
)
def test_why_ec2_changed_its_state(reason: object, told: str) -> None:
    ended = row(State={"Name": "terminated"})
    if reason is not ...:
        ended["StateReason"] = reason
    [one] = parse_instances([ended], CLUSTER_ID)
    assert one.state_reason == told


def test_oldest_first_and_ties_by_id() -> None:
    same = {"LaunchTime": row()["LaunchTime"]}
    ids = [i.instance_id for i in parse_instances([row(3), row(2, **same), row(1, **same)], CLUSTER_ID)]
    assert ids == ["i-0001", "i-0002", "i-0003"]


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"State": {"Name": "hibernating"}}, id="a state that EC2 does not have"),
        pytest.param({"State": {}}, id="no state"),
        pytest.param({"State": None}, id="state is null"),
        pytest.param({"LaunchTime": "2026-01-01"}, id="a launch time that is text"),
        pytest.param({"Placement": {}}, id="no zone"),
        pytest.param({"InstanceId": ...}, id="no id"),
        pytest.param({"InstanceType": ...}, id="no type"),
    ],
)
def test_half_a_row_is_no_fleet(changes: dict[str, Any]) -> None:
    broken = row(1, **{k: v for k, v in changes.items() if v is not ...})
    for key, value in changes.items():
        if value is ...:
            del broken[key]
    with pytest.raises(FleetUnavailable, match="nothing is decided on half a fleet"):
        parse_instances([row(2), broken], CLUSTER_ID)


# --------------------------------------------------------------------------------------------------------- asked by id


class ById(Fleet):
    """EC2: rows by id, and what was asked."""

    def __init__(self, *rows: dict[str, Any]) -> None:
        super().__init__()
        self.rows = {row["InstanceId"]: row for row in rows}
        self.asked: list[tuple[str, ...]] = []

    def look_up(self, instance_ids: Sequence[str]) -> Sequence[Mapping[str, Any]]:
        self.asked.append(tuple(instance_ids))
        return [self.rows[instance_id] for instance_id in instance_ids if instance_id in self.rows]


def test_what_the_clusters_tag_does_not_list_is_asked_for_by_id_once() -> None:
    seen = snapshot([worker(1)])
    ec2 = ById(row(2, Tags={"ManagedBy": "autoscaler"}))
    looked = look_up(ec2, seen, ("i-001", "i-0002", "i-0003", "i-0002"), CLUSTER_ID)
    assert ec2.asked == [("i-0002", "i-0003")], "what is listed needs no question"
    assert looked.looked_up == {"i-0002", "i-0003"}
    assert [(i.instance_id, i.managed) for i in looked.unlisted] == [("i-0002", False)]
    assert look_up(ec2, looked, ("i-0003",), CLUSTER_ID) == looked
    assert len(ec2.asked) == 1
