"""Whether as many workers as there may ever be fit into the account's quotas beside what already runs."""

import re
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from autoscaler.cli.verify.checks import Account, Finding, Subject, ok, problem, warning
from autoscaler.cli.verify.image import TYPES_AT_ONCE
from autoscaler.decide.capacity.market import on_demand_of
from autoscaler.model import CLUSTER_TAG, MANAGED_BY_TAG, MANAGED_BY_VALUE, ON_DEMAND, SPOT
from autoscaler.policy import Policy
from autoscaler.pools import WorkerPool

VPC_QUOTA: Final = "L-F678F1CE"


class _Class(NamedTuple):
    """Families of instance types that share a quota of vCPUs."""

    named: str
    families: frozenset[str]
    """The letters that types' names begin with."""
    on_demand: str
    spot: str


# Source: EC2 user guide, "Amazon EC2 instance type quotas" and "Spot Instance quotas", with Service Quotas' codes.
CLASSES: Final = (
    _Class("", frozenset({"a", "c", "d", "h", "i", "im", "is", "m", "r", "t", "z"}), "L-1216C47A", "L-34B43A08"),
    _Class("G and VT", frozenset({"g", "gr", "vt"}), "L-DB2E81BA", "L-3819A6DF"),
    _Class("P", frozenset({"p"}), "L-417A185B", "L-7212CCBC"),
    _Class("Inf", frozenset({"inf"}), "L-1945791B", "L-B5D1601B"),
    _Class("Trn", frozenset({"trn"}), "L-2C3B7624", "L-6B0D517C"),
    _Class("X", frozenset({"x"}), "L-7295265B", "L-E3A00192"),
    _Class("F", frozenset({"f"}), "L-74FC7D96", "L-88CF9481"),
    _Class("DL", frozenset({"dl"}), "L-6E869C2A", "L-85EED4F7"),
)


def check_quotas(account: Account, subject: Subject) -> Sequence[Finding]:
    """The vCPUs of every class of types that the policy names, in both markets, and VPCs."""
    return [*_vcpus(account, subject), *_vpcs(account)]


def class_of(instance_type: str) -> _Class | None:
    """Whose quota it counts against; None for families with one of their own (high memory, HPC, Mac)."""
    letters = re.match(r"[a-z]+", instance_type)
    return next((one for one in CLASSES if letters is not None and letters[0] in one.families), None)


def _vcpus(account: Account, subject: Subject) -> Iterator[Finding]:
    policy, ec2 = subject.policy, account.client("ec2")
    unknown = sorted({kind for kind in policy.instance_types if class_of(kind) is None})
    if unknown:
        said = f"not known: {', '.join(unknown)} have quotas of their own"
        yield warning("on-demand vCPU quota of others", said, "Look them up in Service Quotas.")
    for one in CLASSES:
        pools = [pool for pool in policy.pools if any(class_of(kind) is one for kind in pool.instance_types)]
        if pools:
            yield from _on_demand(account, ec2, subject, one, pools)
    for one in CLASSES:
        buying = [pool for pool in policy.pools if pool.market == SPOT and _kinds(one, [pool])]
        if buying:
            yield from _spot(account, ec2, subject, one, buying)


def _on_demand(
    account: Account, ec2: Any, subject: Subject, one: _Class, pools: Sequence[WorkerPool]
) -> Iterator[Finding]:
    policy = subject.policy
    quota, each = _quota(account, "ec2", one.on_demand), _largest(ec2, _kinds(one, pools))
    used, ours = _used(ec2, one, ON_DEMAND), _used(ec2, one, ON_DEMAND, subject.cluster_id)
    most = min(policy.most_workers, sum(_most(pool, policy) for pool in pools))
    limit = "workers.max" if policy.most_workers == policy.workers.max else "the highest max of the schedules"
    if most < policy.most_workers:
        limit = "the max of " + " and ".join(f"workers.pools.{pool.name}" for pool in pools)
    name, needed = f"on-demand vCPU quota{one.named and f' of {one.named}'}", each * most
    said = f"{quota:.0f}, of which {used} are in use; {limit} needs {needed} ({each} each)"
    if used - ours + needed > quota:
        yield problem(name, said, f"Have the quota {one.on_demand} raised, or lower {limit}.")
    else:
        yield ok(name, said)


def _spot(account: Account, ec2: Any, subject: Subject, one: _Class, pools: Sequence[WorkerPool]) -> Iterator[Finding]:
    """What does not fit is on demand, so that it is no problem."""
    policy = subject.policy
    quota, each = _quota(account, "ec2", one.spot), _largest(ec2, _kinds(one, pools))
    needed = each * max(_most(pool, policy) - on_demand_of(pool, _most(pool, policy)) for pool in pools)
    used, ours = _used(ec2, one, SPOT), _used(ec2, one, SPOT, subject.cluster_id)
    name = f"Spot vCPU quota{one.named and f' of {one.named}'}"
    said = f"{quota:.0f}, of which {used} are in use; as many Spot workers as there may be need {needed} ({each} each)"
    if used - ours + needed > quota:
        mend = f"Have the quota {one.spot} raised, or what does not fit into it will be on demand."
        yield warning(name, said, mend)
    else:
        yield ok(name, said)


def _vpcs(account: Account) -> Sequence[Finding]:
    quota = _quota(account, "vpc", VPC_QUOTA)
    count = len(account.client("ec2").describe_vpcs()["Vpcs"])
    said = f"{count} of {quota:.0f} VPCs exist"
    if count >= quota:
        return [warning("VPC quota", said, "A new cluster stack needs one more: have the quota raised.")]
    return [ok("VPC quota", said)]


def _kinds(one: _Class, pools: Sequence[WorkerPool]) -> list[str]:
    return sorted({kind for pool in pools for kind in pool.instance_types if class_of(kind) is one})


def _most(pool: WorkerPool, policy: Policy) -> int:
    return policy.most_workers if pool.max is None else min(pool.max, policy.most_workers)


def _largest(ec2: Any, kinds: Sequence[str]) -> int:
    """The vCPUs of the largest of these types."""
    described = [
        row
        for start in range(0, len(kinds), TYPES_AT_ONCE)
        for row in ec2.describe_instance_types(InstanceTypes=kinds[start : start + TYPES_AT_ONCE])["InstanceTypes"]
    ]
    return int(max(row["VCpuInfo"]["DefaultVCpus"] for row in described))


def _quota(account: Account, service: str, code: str) -> float:
    answer = account.client("service-quotas").get_service_quota(ServiceCode=service, QuotaCode=code)
    return float(answer["Quota"]["Value"])


def _used(ec2: Any, one: _Class, market: str, cluster_id: str | None = None) -> int:
    """How many vCPUs run in a market, of the whole account or of one cluster's workers; none of one without name."""
    filters = [{"Name": "instance-state-name", "Values": ["pending", "running"]}]
    if cluster_id == "":
        return 0
    if cluster_id is not None:
        filters += [
            {"Name": f"tag:{CLUSTER_TAG}", "Values": [cluster_id]},
            {"Name": f"tag:{MANAGED_BY_TAG}", "Values": [MANAGED_BY_VALUE]},
        ]
    return sum(
        _vcpus_of(row)
        for page in ec2.get_paginator("describe_instances").paginate(Filters=filters)
        for reservation in page["Reservations"]
        for row in reservation["Instances"]
        if class_of(row["InstanceType"]) is one and (row.get("InstanceLifecycle") == SPOT) is (market == SPOT)
    )


def _vcpus_of(row: dict[str, Any]) -> int:
    options = row.get("CpuOptions", {})
    return int(options.get("CoreCount", 1)) * int(options.get("ThreadsPerCore", 1))
