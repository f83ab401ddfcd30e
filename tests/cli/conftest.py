"""The same false account as for the adapters, and a cluster to tear down."""

import pytest

from autoscaler.simulator.cluster import SimCluster
from tests.aws.conftest import _moto, _no_real_account, calls, clients
from tests.cli.teardown.teardowns import POLICY
from tests.simulator.worlds import deployment

__all__ = ["_moto", "_no_real_account", "calls", "clients", "cluster"]


@pytest.fixture
def cluster() -> SimCluster:
    """Two workers of ours and a static one; four pods that any two of them hold."""
    made = SimCluster(POLICY, workers=2, static_workers=1)
    made.apply(deployment(replicas=4, cpu=300))
    made.run(60)
    return made
