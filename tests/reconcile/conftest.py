import pytest

from autoscaler.policy import Policy
from autoscaler.simulator.cluster import SimCluster
from autoscaler.simulator.world.workload import MIB, Ask, Kind, PodTemplate, Workload


@pytest.fixture
def cluster() -> SimCluster:
    """Two workers of ours, idle, with full windows."""
    return SimCluster(Policy(version=1))


def deployment(name: str, replicas: int, *, cpu_millicores: int = 900, burn_cores: float = 0.0) -> Workload:
    template = PodTemplate(request=Ask(cpu_millicores=cpu_millicores, memory_bytes=100 * MIB), burn_cores=burn_cores)
    return Workload(namespace="shop", name=name, kind=Kind.DEPLOYMENT, replicas=replicas, template=template)


def need_two_workers(cluster: SimCluster) -> None:
    """Eight pods of 0.9 CPU: four fit on the two workers, the others wait for two more."""
    cluster.apply(deployment("web", 8))
    cluster.run(15)


def make_one_superfluous(cluster: SimCluster) -> None:
    """Three workers of which one is not needed, calm for long enough."""
    cluster.add_worker()
    cluster.run(1500)
