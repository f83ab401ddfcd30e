"""Worlds that are drawn from a seed: something of everything, and things that happen to it."""

import functools
import random
from typing import Any
from zlib import crc32

from autoscaler.simulator.world.shapes import even_over_zones, one_per_host, with_volume
from autoscaler.simulator.world.workload import (
    MIB,
    SAFE_TO_EVICT,
    Ask,
    Budget,
    Constraints,
    Kind,
    PodTemplate,
    Workload,
)
from autoscaler.simulator.world.world import SERVER, FixedNode, World, WorldSettings
from tests.simulator.worlds import row

PRIORITIES = ("", "system-node-critical")


def draw_world(seed: int, *, now_s: float, for_s: float) -> World:
    """A world whose next `for_s` seconds are on its agenda."""
    dice = random.Random(seed)  # noqa: S311 - a story, no secret
    static = FixedNode(name="static.example-1", instance_id="i-0bbbbbbbbbbbbbb01", ip="10.0.2.10")
    settings = WorldSettings(
        cluster_id="test",
        boot_s=(20.0, 60.0),
        seed=seed,
        server_tainted=dice.random() < 0.5,
        dual_stack=dice.random() < 0.5,
        fixed_nodes=(SERVER, static)[: 1 + dice.randrange(2)],
        toleration_s=120.0,
    )
    world = World(settings, now_s=now_s)
    workers = 1 + dice.randrange(4)
    world.see_instances([row(number) for number in range(workers)])
    for number in range(12):
        apply = functools.partial(world.apply, _workload(dice, f"w{number}", seed))
        world.at(now_s + for_s * 0.9 * dice.random(), apply)
    for _ in range(14):
        world.at(now_s + 60 + (for_s - 60) * dice.random(), lambda: _something(world, dice, workers))
    # In time to be Ready, and too late to have been measured for long.
    world.at(now_s + for_s - 80, lambda: world.see_instances([row(number) for number in range(workers + 1)]))
    return world


def _workload(dice: random.Random, name: str, seed: int) -> Workload:
    def ask(chance: float) -> Ask:
        if dice.random() > chance:
            return Ask()
        return Ask(cpu_millicores=dice.choice((0, 7, 130, 333)), memory_bytes=dice.choice((0, 16, 77)) * MIB)

    kind = dice.choice((Kind.DEPLOYMENT, Kind.DEPLOYMENT, Kind.STATEFUL_SET, Kind.DAEMON_SET, Kind.POD))
    volume = kind is Kind.STATEFUL_SET and dice.random() < 0.7
    return Workload(
        namespace=dice.choice(("shop", "batch")),
        name=name,
        kind=kind,
        replicas=dice.randrange(5),
        budget=Budget(max_unavailable=1) if dice.random() < 0.3 else None,
        local_volume=volume,
        csi_driver="topolvm.io" if volume and dice.random() < 0.5 else "",
        template=PodTemplate(
            request=Ask(cpu_millicores=9000) if dice.random() < 0.15 else ask(0.9),
            init=ask(0.3),
            sidecar=ask(0.3),
            overhead=ask(0.2),
            burn_cores=dice.choice((0.0, 0.05, 0.4)),
            priority_class=dice.choice(PRIORITIES),
            node_selector=(("k3s-autoscaler/pool", "gpu"),) if dice.random() < 0.15 else (),
            annotations=((SAFE_TO_EVICT, "false"),) if dice.random() < 0.3 else (),
            gated=dice.random() < 0.15,
            image_pull_fails=dice.random() < 0.1,
            run_for_s=60.0 if kind is Kind.POD and dice.random() < 0.5 else None,
            finalizer_s=dice.choice((0.0, 500.0)),
            **_rules(f"{seed}: {name}"),
        ),
    )


def _rules(story: str) -> dict[str, Any]:
    """By a digest of the story, so that the dice fall as they did without it."""
    number = crc32(story.encode())
    volumes = (with_volume(), with_volume(zone="us-east-1b"), with_volume(missing=True))
    shapes = (Constraints(), one_per_host("w1"), even_over_zones("w2"), *volumes)
    return {
        "pod_level": Ask(cpu_millicores=210, memory_bytes=99 * MIB) if number % 3 == 0 else Ask(),
        "extended": (("nvidia.com/gpu", 1),) if number % 7 == 0 else (),
        "constraints": shapes[number // 21 % len(shapes)],
    }


def _something(world: World, dice: random.Random, workers: int) -> None:
    names = sorted(world.state.nodes)
    name = dice.choice(names)
    match dice.randrange(8):
        case 0:
            world.see_instances([row(number) for number in range(workers) if dice.random() < 0.8])
        case 1:
            world.break_node(name)
        case 2:
            world.mend_node(name)
        case 3:
            world.cordon(name)
        case 4:
            world.uncordon(name)
        case 5:
            world.faults.unmeasured.symmetric_difference_update({name})
        case 6:
            world.reset_counters(name)
        case _:
            owners = [key for key, workload in world.state.workloads.items() if workload.namespace != "kube-system"]
            world.delete(dice.choice(owners))
