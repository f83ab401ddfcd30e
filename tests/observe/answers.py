"""Answers to spoil: a healthy one by hand, and single rows."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

from autoscaler.model import CLUSTER_TAG, MANAGED_BY_TAG, MANAGED_BY_VALUE, ROLE_TAG, Sample, Snapshot, State
from autoscaler.observe.samples import Rows, sort_samples
from autoscaler.observe.series import COUNTED, FAMILY, KUBE_STATE_METRICS, NODE_EXPORTER
from autoscaler.observe.snapshot import assemble
from autoscaler.policy import Policy

POLICY = Policy(version=1)
NOW_S = 1_800_000_000
CLUSTER_ID = "sim"
MIB = 2**20

Spoil = Callable[[list[Sample]], Iterable[Sample]]


def sample(family: str, value: float | str = 1, /, **labels: str) -> Sample:
    """One row of an answer."""
    return Sample({FAMILY: family, **labels}, (float(NOW_S), str(value)))


def node(name: str, provider_id: str, *, age_s: int = 7200, cpu: str = "1.9", **labels: str) -> Sample:
    sizes = {"cpu": cpu, "memory": str(1500 * MIB), "pods": "110"}
    return sample("node", NOW_S - age_s, node=name, provider_id=provider_id, **{**sizes, **labels})


def counted(rows: Iterable[Sample]) -> list[Sample]:
    """The rows with as many counted of each family as there are."""
    found = [row for row in rows if row.metric[FAMILY] != "counted"]
    of = {family: sum(1 for row in found if row.metric[FAMILY] == family) for family in (*COUNTED, "node_unmeasured")}
    return [*found, *(sample("counted", count, of=family) for family, count in of.items())]


def healthy(*more: Sample, workers: int = 2) -> list[Sample]:
    """A server, `workers` workers of ours and a static one, all Ready, measured, calm; and what else is given."""
    names = [f"worker-{iid(number)}" for number in range(1, workers + 1)]
    nodes = [
        node("server", "aws:///us-east-1a/i-0aaa"),
        *(node(name, f"aws:///us-east-1a/{iid(number)}") for number, name in enumerate(names, 1)),
        node("static-1", "aws:///us-east-1b/i-0bbb"),
    ]
    used = {"use": 0.2, "use_grow_min": 0.2, "use_grow_count": 4, "use_shrink_max": 0.2, "use_shrink_count": 40}
    return counted(
        [
            *nodes,
            sample("node_control_plane", node="server"),
            sample("node_local_volumes", node="none"),
            *(sample(family, value, resource=resource) for family, value in used.items() for resource in RESOURCES),
            *(sample("shown", value, of=family) for family, value in SHOWN.items()),
            sample("shown", len(nodes), of="kube_node_status_condition"),
            sample("shown", len(nodes), of="kube_node_spec_unschedulable"),
            sample("volumes_of", csi_driver="k3s-autoscaler-proof"),
            sample("owner_youngest", NOW_S - 3600),
            sample("source_nodes", len(nodes), instance="10.42.0.9:8080", job=KUBE_STATE_METRICS),
            sample("version", version="v2.20.0"),
            sample("scraped_at", NOW_S - 1, source=KUBE_STATE_METRICS),
            sample("scraped_at", NOW_S - 9, source=NODE_EXPORTER),
            sample("scrape_interval", 2, source=KUBE_STATE_METRICS),
            sample("scrape_interval", 15, source=NODE_EXPORTER),
            sample("evaluated_at", NOW_S - 5, group="utilisation", interval_s="15"),
            *more,
        ]
    )


RESOURCES = ("cpu", "memory")
SHOWN = {
    "kube_node_labels": 2,
    "kube_node_status_addresses": 4,
    "kube_persistentvolume_annotations": 1,
    "kube_persistentvolume_info": 1,
}


def rows_of(*rows: Sample) -> Rows:
    found = sort_samples(rows)
    assert found is not None
    return found


def fleet(workers: int = 2) -> list[dict[str, Any]]:
    """DescribeInstances of the same: the server and the workers of ours."""
    server = {ROLE_TAG: "server", CLUSTER_TAG: CLUSTER_ID}
    return [row(0xAAA, InstanceId="i-0aaa", Tags=server), *(row(number) for number in range(1, workers + 1))]


def seen(
    samples: Iterable[Sample],
    rows: Iterable[dict[str, Any]] | None = None,
    *,
    state: State | None = None,
    now_s: int = NOW_S,
    policy: Policy = POLICY,
) -> Snapshot:
    return assemble(
        tuple(samples),
        tuple(fleet() if rows is None else rows),
        (),
        state=state if state is not None else State(),
        cluster_id=CLUSTER_ID,
        policy=policy,
        now_s=now_s,
    )


def without(family: str, /, **labels: str) -> Spoil:
    """Every row of the family with these labels is missing."""

    def spoil(samples: list[Sample]) -> Iterable[Sample]:
        left = [s for s in samples if not _is(s, family, labels)]
        assert len(left) < len(samples), f"nothing of {family} to take away"
        return left

    return spoil


def valued(family: str, value: float | str, /, **labels: str) -> Spoil:
    """Every row of the family with these labels has this value."""

    def spoil(samples: list[Sample]) -> Iterable[Sample]:
        changed = [Sample(s.metric, (s.value[0], str(value))) if _is(s, family, labels) else s for s in samples]
        assert changed != samples, f"nothing of {family} to change"
        return changed

    return spoil


def plus(*rows: Sample) -> Spoil:
    """These rows as well, counted."""
    return lambda samples: counted([*samples, *rows])


def chain(*spoils: Spoil) -> Spoil:
    """One after the other."""

    def spoil(samples: list[Sample]) -> Iterable[Sample]:
        for one in spoils:
            samples = list(one(samples))
        return samples

    return spoil


def _is(one: Sample, family: str, labels: dict[str, str]) -> bool:
    return one.metric[FAMILY] == family and labels.items() <= one.metric.items()


def iid(number: int) -> str:
    return f"i-0{number:03x}"


def row(number: int = 1, **changes: Any) -> dict[str, Any]:
    """One DescribeInstances row of a worker of ours; `Tags` as a dict."""
    tags = changes.pop("Tags", {MANAGED_BY_TAG: MANAGED_BY_VALUE, CLUSTER_TAG: CLUSTER_ID})
    return {
        "InstanceId": iid(number),
        "InstanceType": "t3.small",
        "State": {"Code": 16, "Name": "running"},
        "LaunchTime": datetime.fromtimestamp(NOW_S - 7200 + number, tz=UTC),
        "Placement": {"AvailabilityZone": "us-east-1a"},
        "SubnetId": "subnet-a",
        "PrivateDnsName": "ip-10-0-1-9.ec2.internal",
        "Tags": [{"Key": key, "Value": value} for key, value in tags.items()],
        **changes,
    }
