"""A large machine of a sale, and what is left to run on it: cheaper ones come first, then it goes."""

from autoscaler.policy import Policy, ScaleDown, Workers
from autoscaler.simulator.cluster import SimCluster
from tests.reconcile.conftest import deployment
from tests.reconcile.test_consolidation import live

TYPES = ("m5.2xlarge", "t3.small")


def after_a_sale(share: float | None) -> SimCluster:
    """One large worker and a small one, with pods that two small ones hold as well."""
    policy = Policy(
        version=1, workers=Workers(min=2, instance_types=TYPES), scale_down=ScaleDown(replace_when_saves=share)
    )
    cluster = SimCluster(policy, workers=1)
    cluster.add_worker(1, instance_type="t3.small")
    cluster.apply(deployment("web", 8, cpu_millicores=600, burn_cores=0.35))
    cluster.run(1500)
    return cluster


def test_the_dear_one_goes_once_the_cheap_ones_are_there_and_that_is_the_end() -> None:
    cluster = after_a_sale(0.3)
    told = list(live(cluster, 2 * 3600))
    before_usd = told[0]["cost"]["usd_per_hour"]
    began = [(d["action"], d["reason"]) for d in told if d["action"] in {"scale_up", "repair", "scale_down"}]
    assert began == [("scale_up", "cheaper"), ("repair", "cheaper")]
    types = {cluster.ec2.instances[i].instance_type for i in cluster.workers()}
    assert types == {"t3.small"}
    assert told[-1]["cost"]["usd_per_hour"] < before_usd * 0.7
    assert all(pod.node for pod in cluster.world.pods if pod.namespace == "shop")
    assert cluster.world.state.evictions == 8, "its own pods, once"


def test_it_stays_where_nobody_asked_for_that() -> None:
    cluster = after_a_sale(None)
    told = list(live(cluster, 3600))
    assert {d["action"] for d in told} == {"none"}
    assert "m5.2xlarge" in {cluster.ec2.instances[i].instance_type for i in cluster.workers()}
