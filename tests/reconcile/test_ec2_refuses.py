"""EC2 gives no launch for long, and alerts make a look every ten seconds: few calls, told once, for the true cause."""

import pytest

from autoscaler.model import Mode
from autoscaler.policy import Policy
from autoscaler.simulator.cluster import SimCluster
from tests.passed_over import why
from tests.reconcile.conftest import need_two_workers

LAUNCH = ("ec2", "launch")


def looks(cluster: SimCluster, for_s: int = 3600) -> tuple[int, int, set[str]]:
    """Calls of CreateFleet, news that people heard, and reasons of the refusals."""
    calls, told = cluster.wires.totals[LAUNCH], len(cluster.told)
    documents = cluster.sweep_for(for_s, every_s=10)
    reasons = {document["reason"] for document in documents if document["action"] == "held_back"}
    return cluster.wires.totals[LAUNCH] - calls, len(cluster.told) - told, reasons


@pytest.fixture
def cluster() -> SimCluster:
    cluster = SimCluster(Policy(version=1))
    need_two_workers(cluster)
    return cluster


@pytest.mark.parametrize(
    ("code", "reason", "fewest", "most"),
    [
        ("InsufficientInstanceCapacity", "capacity_backoff", 8, 14),
        ("ReservationCapacityExceeded", "capacity_backoff", 8, 14),
        ("InvalidParameterValue", "launch_refused", 5, 12),
        ("UnauthorizedOperation", "launch_refused", 5, 12),
        ("InvalidAMIID.NotFound", "launch_refused", 5, 12),
        ("CodeOfNextYear", "launch_refused", 5, 12),
        ("InternalError", "launch_busy", 12, 40),
    ],
)
def test_every_pool_of_the_answer_fails_for_an_hour(
    cluster: SimCluster, code: str, reason: str, fewest: int, most: int
) -> None:
    for zone in ("us-east-1a", "us-east-1b"):
        cluster.ec2.exhaust("t3.small", zone, code=code)
    calls, told, reasons = looks(cluster)
    assert fewest <= calls <= most
    assert (told, len(cluster.decisions)) == (1, 1)
    assert reasons == {reason}
    assert code in " ".join(cluster.told[-1]["failures"])
    cluster.ec2.replenish()
    looks(cluster, 1900)
    assert len(cluster.ready_workers()) == 4


@pytest.mark.parametrize(
    ("code", "reason", "fewest", "most"),
    [
        pytest.param("RequestLimitExceeded", "launch_busy", 6, 14, id="throttled"),
        pytest.param("InternalError", "launch_busy", 6, 14, id="broken: it may have landed"),
        pytest.param("ConnectTimeoutError", "launch_busy", 6, 14, id="not reached"),
        pytest.param("UnauthorizedOperation", "launch_refused", 3, 6, id="not allowed"),
        pytest.param("PendingVerification", "launch_refused", 3, 6, id="not verified"),
        pytest.param("CodeOfNextYear", "launch_refused", 3, 6, id="nobody knows"),
    ],
)
def test_the_call_fails_for_half_an_hour(cluster: SimCluster, code: str, reason: str, fewest: int, most: int) -> None:
    cluster.fail(*LAUNCH, times=None, code=code, effect_unknown=code == "InternalError")
    calls, told, reasons = looks(cluster, 1800)
    assert fewest <= calls <= most, "as many as looks would be 180"
    assert told == 1
    assert reasons <= {reason}
    assert code in " ".join(cluster.told[-1]["failures"])
    cluster.heal()
    looks(cluster, 1900)
    assert len(cluster.ready_workers()) == len(cluster.workers()) == 4
    assert cluster.state.launches == ()


def test_news_is_a_cause_that_changed(cluster: SimCluster) -> None:
    codes = ["UnauthorizedOperation", "InvalidFleetConfig", "UnauthorizedOperation"]
    for code in codes:
        cluster.fail(*LAUNCH, times=2, code=code)
    looks(cluster)
    assert cluster.wires.totals[LAUNCH] >= 5
    assert [" ".join(document["failures"]).rsplit("(", 1)[1] for document in cluster.told] == [f"{c})" for c in codes]


@pytest.mark.parametrize(
    ("code", "alarms"),
    [("UnauthorizedOperation", True), ("CodeOfNextYear", True), ("RequestLimitExceeded", False)],
)
def test_what_lasts_raises_the_alarm_of_failed_launches_and_its_end_ends_it(
    cluster: SimCluster, code: str, alarms: bool
) -> None:
    cluster.fail(*LAUNCH, times=None, code=code)
    looks(cluster, 600)
    assert (cluster.sweep()["failed_launches"] >= 2) is alarms
    cluster.heal()
    looks(cluster, 1900)
    assert cluster.sweep()["failed_launches"] == 0


@pytest.mark.parametrize("observing", [False, True])
def test_a_launch_template_that_may_not_be_read_is_named_and_told_once(observing: bool) -> None:
    cluster = SimCluster(Policy(version=1, mode=Mode.OBSERVE if observing else Mode.ACTIVE))
    need_two_workers(cluster)
    cluster.fail("ec2", "launch_context", times=None, code="UnauthorizedOperation")
    looks(cluster)
    asked = cluster.wires.totals["ec2", "launch_context"]
    assert 4 <= asked <= 8, "as many as looks would be 360"
    [document] = cluster.told
    assert (document["action"], document["reason"]) == ("held_back", "launch_refused")
    assert "UnauthorizedOperation: the functions' role" in document["message"]
    assert any("launch_context" in why(row) for row in document["blocked"])
    assert cluster.state.launches == ()
    cluster.heal()
    looks(cluster, 1900)
    assert len(cluster.workers()) == (2 if observing else 4)
    if observing:
        would = cluster.sweep()
        assert (would["mode"], would["action"]) == ("observe", "scale_up"), "and tells again what it would do"
