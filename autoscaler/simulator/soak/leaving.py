"""Who leaves by choice in a soak: some seeds' policy has budgets, blackouts, a rotation, and is held to them.

Said here once more, by minutes of UTC's day, tags and machines: not by the code that is tested.
"""

import random
from collections.abc import Sequence
from typing import Final

import msgspec

from autoscaler.model import OPERATION_TAG, TEMPLATE_VERSION_TAG
from autoscaler.policy import Drift, Policy, Rotation
from autoscaler.simulator.instances import SimInstance
from autoscaler.simulator.soak.assumptions import CLOCKS_DIFFER_S
from autoscaler.simulator.soak.watch import Watch
from autoscaler.windows import Blackout

SEEDS: Final = 0.4
"""In so many of them something of it is set."""
_ALL: Final[tuple[Drift, ...]] = ("image", "template", "k3s_version")
_DRIFTS: Final[Sequence[tuple[Drift, ...]]] = ((), (), ("template",), ("k3s_version",), _ALL)
_FIRST_MINUTE: Final = 8 * 60 + 10
_LAST_MINUTE: Final = 10 * 60
"""Between these the blackouts begin, in UTC: they end before the fleet has to go down to its floor."""


def with_choices(policy: Policy, seed: int) -> Policy:
    """The policy; in some seeds with a budget, a blackout and workers that are rotated."""
    rng = random.Random(f"{seed}: who leaves by choice")
    if rng.random() >= SEEDS:
        return policy
    begins = rng.randrange(_FIRST_MINUTE, _LAST_MINUTE)
    ends = begins + rng.choice((20, 60))
    window = Blackout(
        name="blackout",
        time_zone="UTC",
        from_time=f"{begins // 60:02}:{begins % 60:02}",
        to_time=f"{ends // 60:02}:{ends % 60:02}",
    )
    budget: int | str = rng.choice((1, 2, 3, "20%", "50%"))
    blackouts = (window,) if rng.random() < 0.5 else ()
    rotation = Rotation(max_age_s=rng.choice((None, 3600, 5400)), drift=rng.choice(_DRIFTS))
    scale_down = msgspec.structs.replace(policy.scale_down, budget=budget, blackouts=blackouts)
    return msgspec.structs.replace(policy, scale_down=scale_down, rotation=rotation)


def blacked_out(policy: Policy, at_s: float) -> bool:
    """Whether a blackout holds at that moment."""
    minute = at_s % 86_400 / 60
    return any(window.minutes[0] <= minute < window.minutes[1] for window in policy.scale_down.blackouts)


def budget_of(policy: Policy, ready: int) -> int:
    """How many workers that run pods may leave together."""
    budget = policy.scale_down.budget
    if isinstance(budget, int):
        return budget
    return max(1, int(ready * float(budget.rstrip("%")) / 100))


def is_due(watch: Watch, instance_id: str) -> bool:
    """Whether that worker is too old, or has drifted."""
    instance = watch.cluster.ec2.instances.get(instance_id)
    rotation = watch.policy.rotation
    if instance is None:
        return False
    age_s = watch.cluster.now_s - instance.launched_at_s
    too_old = rotation.max_age_s is not None and age_s >= rotation.max_age_s - CLOCKS_DIFFER_S
    return too_old or any(_drifted(watch, instance, cause) for cause in rotation.drift)


def _drifted(watch: Watch, instance: SimInstance, cause: Drift) -> bool:
    machines, settings = watch.cluster.world.state.machines, watch.cluster.ec2.settings
    match cause:
        case "template":
            return instance.tags.get(TEMPLATE_VERSION_TAG) != settings.template_version
        case "image":
            return instance.image_id != settings.image_id
        case "k3s_version":
            machine = machines.get(instance.instance_id)
            servers = {server.k3s_version for server in machines.values() if server.server}
            return machine is not None and machine.k3s_version not in servers


def launched_by(watch: Watch, decision_id: str) -> set[str]:
    """Instances that the decision launched."""
    prefix = f"{decision_id}-l"
    instances = watch.cluster.ec2.instances.values()
    return {i.instance_id for i in instances if i.tags.get(OPERATION_TAG, "").startswith(prefix)}
