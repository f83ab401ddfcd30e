"""Answers to spoil: those of a simulated cluster, and single samples by hand."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

from autoscaler.model import CLUSTER_TAG, MANAGED_BY_TAG, MANAGED_BY_VALUE, Sample, Snapshot, State
from autoscaler.observe.series import PREFIX
from autoscaler.observe.snapshot import assemble
from autoscaler.policy import Policy
from autoscaler.simulator.cluster import SimCluster

POLICY = Policy(version=1)
NOW_S = 1_800_000_000
CLUSTER_ID = "sim"

Spoil = Callable[[list[Sample]], Iterable[Sample]]


def healthy() -> tuple[list[Sample], list[dict[str, Any]]]:
    """The answer and the DescribeInstances rows of two Ready workers of ours and a static one."""
    cluster = SimCluster(POLICY, workers=2, static_workers=1, cluster_id=CLUSTER_ID)
    return cluster.samples(), [dict(row) for row in cluster.ec2.describe()]


def seen(
    samples: Iterable[Sample],
    rows: Iterable[dict[str, Any]] = (),
    *,
    state: State | None = None,
    now_s: int = NOW_S,
    policy: Policy = POLICY,
) -> Snapshot:
    return assemble(
        tuple(samples),
        tuple(rows),
        (),
        state=state if state is not None else State(),
        cluster_id=CLUSTER_ID,
        policy=policy,
        now_s=now_s,
    )


def sample(family: str, value: float | str = 1, /, **labels: str) -> Sample:
    """A recorded series."""
    return Sample({"__name__": PREFIX + family, **labels}, (float(NOW_S), str(value)))


def window(name: str, value: float | str, **labels: str) -> Sample:
    """An operand over time."""
    return Sample({"window": name, **labels}, (float(NOW_S), str(value)))


def family_of(one: Sample) -> str:
    return one.metric.get("__name__", "").removeprefix(PREFIX)


def without(family: str, /, **labels: str) -> Spoil:
    """Every series of the family with these labels is missing."""
    return lambda samples: [s for s in samples if not _is(s, family, labels)]


def valued(family: str, value: float | str, /, **labels: str) -> Spoil:
    """Every series of the family with these labels has this value."""

    def spoil(samples: list[Sample]) -> Iterable[Sample]:
        changed = [Sample(s.metric, (s.value[0], str(value))) if _is(s, family, labels) else s for s in samples]
        assert changed != samples, f"nothing of {family} to change"
        return changed

    return spoil


def _is(one: Sample, family: str, labels: dict[str, str]) -> bool:
    return family_of(one) == family and labels.items() <= one.metric.items()


def row(number: int = 1, **changes: Any) -> dict[str, Any]:
    """One DescribeInstances row of a worker of ours; `Tags` as a dict."""
    tags = changes.pop("Tags", {MANAGED_BY_TAG: MANAGED_BY_VALUE, CLUSTER_TAG: CLUSTER_ID})
    return {
        "InstanceId": f"i-0{number:03x}",
        "InstanceType": "t3.small",
        "State": {"Code": 16, "Name": "running"},
        "LaunchTime": datetime.fromtimestamp(NOW_S - 1000 + number, tz=UTC),
        "Placement": {"AvailabilityZone": "us-east-1a"},
        "SubnetId": "subnet-a",
        "PrivateDnsName": "ip-10-0-1-9.ec2.internal",
        "Tags": [{"Key": key, "Value": value} for key, value in tags.items()],
        **changes,
    }
