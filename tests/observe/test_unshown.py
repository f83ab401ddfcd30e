"""What is not shown and only some features need: unknown, told with its mend, and the rest goes on."""

import pytest

from autoscaler.model import MetricsStatus
from tests.observe.answers import (
    Spoil,
    fleet,
    healthy,
    plus,
    sample,
    seen,
    without,
)

HEALTHY = healthy()
OK = MetricsStatus.OK


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        pytest.param(
            without("shown", of="kube_persistentvolume_info"),
            "no PersistentVolume is shown, not even the one that proves that they are",
            id="not collected, or none and no proof",
        ),
        pytest.param(
            without("shown", of="kube_persistentvolume_annotations"),
            "no PersistentVolume tells its node; let kube-state-metrics run with --metric-annotations-allowlist",
            id="no allow-list",
        ),
        pytest.param(
            plus(sample("volumes_unplaced", 2)),
            "2 PersistentVolumes lie on a node's disk and do not tell",
            id="unplaced",
        ),
        pytest.param(
            plus(sample("volumes_of", 1, csi_driver="topolvm.io")),
            "volumes of topolvm.io may lie on a node's disk, and no metric tells on which",
            id="a driver that may be local",
        ),
    ],
)
def test_local_volumes_that_are_not_shown_are_unknown_and_cost_only_what_needs_them(spoil: Spoil, why: str) -> None:
    snapshot = seen(spoil(HEALTHY))
    assert {n.local_volumes for n in snapshot.nodes} == {None}
    assert (snapshot.metrics_status, snapshot.cluster_known) == (OK, True)
    [unshown] = snapshot.unshown
    assert (unshown.family, why in unshown.sentence) == ("node_local_volumes", True)


def test_volumes_of_the_network_are_no_reason_to_doubt() -> None:
    drivers = plus(sample("volumes_of", 7, csi_driver="ebs.csi.aws.com"))
    assert [n.local_volumes for n in seen(drivers(HEALTHY)).nodes] == [0, 0, 0, 0]


def test_labels_that_are_not_shown_make_the_mark_of_our_workers_unknown() -> None:
    snapshot = seen(without("shown", of="kube_node_labels")(HEALTHY))
    assert {n.managed for n in snapshot.nodes} == {None}
    assert [u.family for u in snapshot.unshown] == ["node_managed"]
    assert "--metric-labels-allowlist" in snapshot.unshown[0].sentence
    assert snapshot.metrics_status is OK


def test_without_workers_of_ours_no_label_is_missed() -> None:
    answer = without("shown", of="kube_node_labels")(healthy(workers=0))
    assert seen(answer, fleet(0)).unshown == ()
