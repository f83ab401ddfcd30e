"""One seed's cluster: its policy, its machines, what runs on it, and how people change that."""

import random
from dataclasses import dataclass

import msgspec

from autoscaler.model.rules import Effect, Taint, Toleration
from autoscaler.policy import BlindGrowth, Capacity, Cost, Drain, Policy, Repair, ScaleDown, ScaleUp, Workers
from autoscaler.simulator.cluster import SimCluster
from autoscaler.simulator.ec2 import Ec2Settings, listed_usd
from autoscaler.simulator.soak.fates import FateRates
from autoscaler.simulator.world.workload import MIB, Ask, Budget, Kind, PodTemplate, Workload
from autoscaler.simulator.world.world import SERVER, FixedNode, WorldSettings

SECOND_SERVER = FixedNode(
    name="ip-10-0-1-11",
    instance_id="i-0aaaaaaaaaaaaaa11",
    instance_type="t3.medium",
    zone="us-east-1b",
    ip="10.0.1.11",
    server=True,
)

BARE_METAL = FixedNode(
    name="pi-1",
    instance_id="pi-1",
    instance_type="t3.small",
    zone="",
    arch="arm64",
    ip="10.0.3.7",
    provider_id="k3s://pi-1",
)
"""A machine of somebody's own beside EC2's: K3s gives its Node the provider-id."""
STARTING = Taint(key="node.cilium.io/agent-not-ready", effect=Effect.NO_SCHEDULE)
DEDICATED = Taint(key="dedicated", value="shop", effect=Effect.NO_SCHEDULE)
"""The agent arguments' own taint: it stays, and every pod of the shop tolerates it."""
TAINTS = ((), (), (), (STARTING,), (DEDICATED,))


@dataclass(frozen=True, slots=True)
class Change:
    """At a time, a workload gets another size or another appetite."""

    number: int
    at_s: float
    owner: str
    replicas: int | None
    burn_cores: float | None

    @property
    def key(self) -> str:
        """Its name in a history."""
        return f"change {self.number}"


def make_policy(rng: random.Random, seed: int) -> Policy:
    """A policy like the default one, with shorter waits so that an hour holds several stories."""
    taste = random.Random(f"{seed}: when people let a worker go")
    least = rng.choice((0, 1, 2, 2, 3))
    return Policy(
        version=1,
        cost=_make_cost(random.Random(f"{seed}: what it may cost"), least),
        workers=Workers(min=least, max=least + rng.choice((2, 4, 8)), join_timeout_s=rng.choice((240, 600))),
        scale_up=ScaleUp(max_step=rng.choice((None, None, 2))),
        scale_down=ScaleDown(
            when=taste.choice(("low_use", "fits")),
            window_s=rng.choice((300, 600)),
            cool_down_s=rng.choice((120, 600)),
            min_age_s=rng.choice((120, 600)),
            max_empty_step=rng.choice((1, 5)),
            refused_for_s=rng.choice((300, 900)),
        ),
        drain=Drain(timeout_s=rng.choice((60, 300)), force=rng.random() < 0.15),
        repair=Repair(not_ready_s=rng.choice((120, 300))),
        blind_growth=BlindGrowth(step=rng.choice((0, 1, 2))),
        capacity=Capacity(back_off_s=rng.choice((30, 120)), max_back_off_s=480),
    )


def _make_cost(money: random.Random, least: int) -> Cost:
    """Mostly none; a cap with room for more than min, and what a worker without a price counts as, or not."""
    if money.random() < 0.75:
        return Cost()
    return Cost(
        max_usd_per_hour=(least + money.choice((1, 2, 4))) * listed_usd("t3.small"),
        other_usd_per_hour=money.choice((None, listed_usd("t3.small"))),
    )


def make_cluster(rng: random.Random, policy: Policy, seed: int, *, now_s: float) -> SimCluster:
    """Servers, static workers, workers of ours; zones, boot times and visibility as the dice say."""
    servers = (SERVER,) if rng.random() < 0.6 else (SERVER, SECOND_SERVER)
    workers = policy.workers.min + rng.choice((0, 0, 1))
    boot_s = rng.choice(((15.0, 25.0), (25.0, 45.0), (40.0, 120.0)))
    dual_stack = rng.random() < 0.3
    ec2 = Ec2Settings(seed=seed, forget_s=rng.choice((600.0, 3600.0)), shutdown_s=rng.choice((5.0, 20.0, 60.0)))
    static = rng.choice((0, 0, 1)) if workers + 1 <= policy.workers.max else 0
    people = random.Random(f"{seed}: how people set it up")
    bare_metal = people.random() < 0.25 and workers + static + 1 <= policy.workers.max
    world = WorldSettings(
        cluster_id="sim",
        seed=seed,
        fixed_nodes=(*servers, BARE_METAL) if bare_metal else servers,
        boot_s=boot_s,
        dual_stack=dual_stack,
        with_node_id=people.random() < 0.25,
        worker_taints=people.choice(TAINTS),
        worker_taints_for_s=people.choice((20.0, 120.0, 900.0)),
        max_events=200,
    )
    if DEDICATED in world.worker_taints:
        world = msgspec.structs.replace(world, worker_taints_for_s=None)
    cluster = SimCluster(
        policy,
        workers=workers,
        static_workers=static,
        static_tagged=seed % 2 == 0,
        seed=seed,
        world=world,
        ec2=ec2,
        now_s=now_s,
    )
    cluster.wires.keep_log = False
    return cluster


def make_rates(rng: random.Random) -> FateRates:
    """How often calls go wrong: some kinds never, some rarely, some often."""

    def rate(often: float) -> float:
        return rng.choice((0.0, 0.0, often / 4, often))

    return FateRates(
        slow=rng.choice((0.0, 0.01, 0.05, 0.3)),
        fails=rate(0.05),
        lost=rate(0.04),
        late=rate(0.04),
        frozen=rate(0.01),
        kill_before=rate(0.02),
        kill_after=rate(0.02),
        kill_in_flight=rate(0.02),
    )


def make_workloads(rng: random.Random, *, seed: int) -> tuple[Workload, ...]:
    """Shops of different pods; some with a budget, some with volumes, some alone."""
    sizes = (250, 450, 900)
    budget = rng.choice((None, Budget(max_unavailable=1), Budget(min_available=1), Budget(max_unavailable=0)))
    web = Workload(
        namespace="shop",
        name="web",
        replicas=rng.randrange(4),
        budget=budget,
        template=PodTemplate(
            request=Ask(cpu_millicores=rng.choice(sizes), memory_bytes=100 * MIB),
            burn_cores=rng.choice((0.0, 0.05, 0.3)),
            stop_s=rng.choice((1.0, 20.0)),
        ),
    )
    cart = msgspec.structs.replace(
        web,
        name="cart",
        budget=None,
        replicas=rng.randrange(3),
        template=PodTemplate(
            request=Ask(cpu_millicores=rng.choice(sizes), memory_bytes=200 * MIB),
            finalizer_s=rng.choice((0.0, 0.0, 900.0)),
        ),
    )
    workloads = [web, cart]
    if rng.random() < 0.2:
        template = PodTemplate(request=Ask(cpu_millicores=200, memory_bytes=64 * MIB))
        workloads.append(
            Workload(
                namespace="shop",
                name="db",
                kind=Kind.STATEFUL_SET,
                template=template,
                local_volume=True,
                csi_driver=rng.choice(("", "", "topolvm.io")),
            )
        )
    if rng.random() < 0.2:
        template = PodTemplate(request=Ask(cpu_millicores=100, memory_bytes=32 * MIB), run_for_s=1800.0)
        workloads.append(Workload(namespace="batch", name="job", kind=Kind.POD, template=template))
    people = random.Random(f"{seed}: what people run beside the shop")
    if people.random() < 0.15:
        template = PodTemplate(request=Ask(cpu_millicores=50, memory_bytes=32 * MIB))
        workloads.append(Workload(namespace="shop", name="console", kind=Kind.POD, template=template))
    return tuple(tolerant(workload) for workload in workloads)


def tolerant(workload: Workload) -> Workload:
    """With the toleration that the whole shop has."""
    template = msgspec.structs.replace(workload.template, tolerations=(Toleration(key=DEDICATED.key, any_value=True),))
    return msgspec.structs.replace(workload, template=template)


def plan_changes(rng: random.Random, *, begin_s: float, end_s: float) -> list[Change]:
    """How the load goes up and down."""
    changes: list[Change] = []
    at_s = begin_s
    while (at_s := at_s + rng.expovariate(1 / 900.0)) < end_s:
        owner = rng.choice(("shop/web", "shop/web", "shop/cart"))
        replicas: int | None = rng.choice((0, 1, 2, 4, 8, 16))
        burn_cores: float | None = None
        if rng.random() < 0.2:
            replicas, burn_cores = None, rng.choice((0.0, 0.2, 0.8))
        changes.append(Change(len(changes), at_s, owner, replicas, burn_cores))
    return changes
