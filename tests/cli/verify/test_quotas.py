"""Quotas of vCPUs by the classes that EC2 counts together: GPUs have one of their own, and so has Spot."""

from collections.abc import Mapping, Sequence
from typing import Any

import botocore.session
import msgspec
import pytest

from autoscaler.cli.verify.checks import Finding
from autoscaler.cli.verify.quotas import CLASSES, check_quotas, class_of
from autoscaler.policy import Policy, Workers
from autoscaler.pools import WorkerPool
from tests.cli.verify.fake_account import GOOD, SERVER, SUBJECT, FakeAccount, instances


def found(*pools: WorkerPool, running: Sequence[Mapping[str, Any]] = (), **quotas: float) -> dict[str, Finding]:
    codes = {code.replace("_", "-"): value for code, value in quotas.items()} | {"L-F678F1CE": 5.0}

    def quota(request: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"Quota": {"Value": codes[request["QuotaCode"]]}}

    policy = Policy(version=1, workers=Workers(min=0, max=10, pools=pools))
    account = FakeAccount(GOOD | {"GetServiceQuota": quota, "DescribeInstances": instances(*running)})
    subject = msgspec.structs.replace(SUBJECT, policy=policy)
    return {finding.check: finding for finding in check_quotas(account, subject)}


GENERAL = WorkerPool(name="general", instance_types=("t3.small",))
GPU = WorkerPool(name="gpu", instance_types=("g4dn.xlarge", "g5.xlarge"), max=4)


@pytest.mark.parametrize(("gpus", "verdict"), [(8.0, "ok"), (7.0, "problem"), (0.0, "problem")])
def test_a_gpu_pool_is_held_against_its_own_quota_as_far_as_its_max(gpus: float, verdict: str) -> None:
    findings = found(GENERAL, GPU, L_1216C47A=64.0, L_DB2E81BA=gpus)
    assert findings["on-demand vCPU quota"].verdict == "ok"
    one = findings["on-demand vCPU quota of G and VT"]
    assert (str(one.verdict), "the max of workers.pools.gpu needs 8 (2 each)" in one.said) == (verdict, True)
    assert ("L-DB2E81BA" in one.todo) is (verdict == "problem")


def test_what_runs_counts_against_the_quota_of_its_own_class() -> None:
    gpu = SERVER | {"InstanceType": "g5.xlarge", "CpuOptions": {"CoreCount": 2, "ThreadsPerCore": 2}}
    findings = found(GENERAL, GPU, running=[SERVER, gpu], L_1216C47A=64.0, L_DB2E81BA=64.0)
    assert "of which 2 are in use" in findings["on-demand vCPU quota"].said
    assert "of which 4 are in use" in findings["on-demand vCPU quota of G and VT"].said


@pytest.mark.parametrize(("spot", "verdict"), [(8.0, "ok"), (7.0, "warning")])
def test_a_gpu_pool_on_spot_has_a_spot_quota_too(spot: float, verdict: str) -> None:
    buying = msgspec.structs.replace(GPU, market="spot")
    one = found(buying, L_DB2E81BA=64.0, L_3819A6DF=spot)["Spot vCPU quota of G and VT"]
    assert str(one.verdict) == verdict
    assert ("will be on demand" in one.todo) is (verdict == "warning")


def test_types_with_a_quota_of_their_own_are_said_to_be_unknown() -> None:
    pool = WorkerPool(name="big", instance_types=("hpc7a.12xlarge",))
    one = found(pool)["on-demand vCPU quota of others"]
    assert (str(one.verdict), "hpc7a.12xlarge" in one.said) == ("warning", True)


def test_every_type_that_ec2_knows_is_in_one_class_or_has_a_quota_of_its_own() -> None:
    shape: Any = botocore.session.get_session().get_service_model("ec2").shape_for("InstanceType")
    families = {kind.partition(".")[0] for kind in shape.enum if class_of(kind) is None}
    of_old, of_their_own = ("cc", "cg", "cr", "hi", "hs"), ("hpc", "mac", "u-", "u7")
    assert not {family for family in families if not family.startswith((*of_old, *of_their_own))}
    assert class_of("inf2.xlarge") is not class_of("i3.large")
    assert class_of("trn1.2xlarge") is not class_of("t3.small")
    assert len({one.on_demand for one in CLASSES} | {one.spot for one in CLASSES}) == 2 * len(CLASSES)
