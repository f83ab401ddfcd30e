"""Every field of the policy at its ends, through all that reads it: what cannot be carried is refused with a sentence.

A field without an end would make the walk itself fail, so that a new one is bounded or named here.
"""

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from msgspec import inspect

from autoscaler.act.effects import node_command
from autoscaler.decide.capacity.catalogue import CATALOGUE, UnknownInstanceType, check_instance_types
from autoscaler.deploy.rules import Settings, render, render_manifests
from autoscaler.model import Mode, Notice, RemovalPhase, Verb
from autoscaler.policy import Policy
from autoscaler.policy_text import PolicyError, parse_policy
from autoscaler.simulator.cluster import SimCluster
from tests.decide.builders import removal
from tests.monitoring.programs import run
from tests.reconcile.conftest import deployment

ROOT: Final = Path(__file__).parent.parent
MANY_TYPES: Final = {f"m5.{n}xlarge": {"cpu_millicores": 4000, "memory_mib": 16_384} for n in range(1, 51)}
CLOCK: Final[dict[str, Any]] = {"name": "w", "time_zone": "UTC"}
WINDOW: Final = CLOCK | {"min": 3}
SIGNAL: Final[dict[str, Any]] = {"name": "mine", "query": "sum(mine)", "per_worker_target": 3}
POOL: Final[dict[str, Any]] = {"name": "general", "instance_types": ["t3.small"]}
STRINGS: Final[dict[str, list[Any]]] = {
    "workers.instance_types": [
        ["t3.small", "t3.small"],
        [],
        ["t3.nano2.x"],
        ["T3.small"],
        ["x" * 40 + ".large"],
        ["u7in-32tb.224xlarge"],
        ["t3.micro", "t3.medium"],
        [f"m5.{n}xlarge" for n in range(51)],
    ],
    "workers.sizes": [
        {},
        {"t3.small": {"cpu_millicores": 1, "memory_mib": 1}},
        {"t3.small": {"cpu_millicores": 2_000_000, "memory_mib": 64 * 1024 * 1024}},
        {"t3.small": {"cpu_millicores": 95, "memory_mib": 700}},
        {"t3.small": {"cpu_millicores": 96, "memory_mib": 700}},
        {f"m5.{n}xlarge": {"cpu_millicores": 1, "memory_mib": 1} for n in range(101)},
    ],
    "workers.pools": [
        [],
        [dict(POOL)],
        [POOL | {"name": "p" * 40}],
        [POOL | {"name": "p" * 41}],
        [POOL | {"name": f"p{n}"} for n in range(8)],
        [POOL | {"name": f"p{n}"} for n in range(9)],
        [POOL | {"min": 10, "max": 10}],
        [POOL | {"min": 11}],
        [POOL | {"max": 0}],
        [POOL | {"max": 1001}],
        [POOL | {"weight": 1000}],
        [POOL | {"weight": 1001}],
        [POOL | {"on_demand_base": 1000, "on_demand_share": 1.0, "market": "spot"}],
        [POOL | {"on_demand_share": 1.1}],
        [POOL | {"volume_gb": 8}],
        [POOL | {"volume_gb": 16_385}],
        [POOL | {"labels": {"l" * 63: "v" * 63}}],
        [POOL | {"labels": {"l" * 64: "v"}}],
        [POOL | {"labels": {f"l{n}": "v" for n in range(21)}}],
        [POOL | {"taints": ["t" * 63 + "=" + "v" * 63 + ":PreferNoSchedule"]}],
        [POOL | {"taints": [f"t{n}:PreferNoSchedule" for n in range(11)]}],
        [POOL | {"agent_args": ["--kubelet-arg=" + "x" * 186] * 1}],
        [POOL | {"agent_args": ["--kubelet-arg=" + "x" * 187] * 1}],
        [POOL | {"image": "/" + "x" * 511}],
        [POOL | {"image": "/" + "x" * 512}],
        [POOL | {"subnets": [f"subnet-{n:08x}" for n in range(12)]}],
        [POOL | {"subnets": [f"subnet-{n:08x}" for n in range(13)]}],
        [{"name": "a", "requirements": {"cpu": ">=1"}}],
        [{"name": "a", "requirements": {"cpu": 10_000_001}}],
        [{"name": "a", "requirements": {"cpu": "2" * 41}}],
        [{"name": "a", "requirements": {"exclude": ["*"]}}],
    ],
    "schedules": [
        [],
        [dict(WINDOW)],
        [WINDOW | {"days": [], "name": "x"}],
        [WINDOW | {"time_zone": "x" * 65}],
        [WINDOW | {"time_zone": "Mars/" + "x" * 59}],
        [WINDOW | {"time_zone": "Pacific/Kiritimati", "name": "x" * 40}],
        [WINDOW | {"name": "x" * 41}],
        [WINDOW | {"from": "22:00", "to": "06:00"}],
        [WINDOW | {"from": "00:00", "to": "24:00", "days": ["sun"]}],
        [WINDOW | {"from": "22:00"}],
        [WINDOW | {"min": 0, "max": 3}],
        [WINDOW | {"min": 1000}],
        [WINDOW | {"max": 1001}],
        [WINDOW | {"headroom": {"workers": 1000, "percent": 90}}],
        [WINDOW | {"headroom": {"percent": 100}}],
        [WINDOW | {"name": f"w{n}"} for n in range(20)],
        [WINDOW | {"name": f"w{n}"} for n in range(21)],
        [dict(WINDOW), dict(WINDOW)],
    ],
    "signals": [
        [],
        [dict(SIGNAL)],
        [SIGNAL | {"name": "x" * 40, "query": "x" * 1000, "window_s": 3600, "step": 100}],
        [SIGNAL | {"name": "x" * 41}],
        [SIGNAL | {"query": "x" * 1001}],
        [SIGNAL | {"query": "(", "name": "half"}],
        [SIGNAL | {"per_worker_target": 5e-324}],
        [SIGNAL | {"per_worker_target": 1e15}],
        [SIGNAL | {"per_worker_target": 0}],
        [SIGNAL | {"per_worker_target": None, "above": -1e15, "below": -1e15}],
        [SIGNAL | {"per_worker_target": None, "above": 1e15, "step": 1}],
        [SIGNAL | {"per_worker_target": None, "above": 2e15}],
        [SIGNAL | {"window_s": 3601}],
        [SIGNAL | {"window_s": 2}],
        [SIGNAL | {"step": 101}],
        [SIGNAL | {"name": f"s{n}"} for n in range(10)],
        [SIGNAL | {"name": f"s{n}"} for n in range(11)],
        [dict(SIGNAL), dict(SIGNAL)],
    ],
    "forecast.time_zone": ["UTC", "Pacific/Kiritimati", "Mars/Base", "", "x" * 65, "../etc"],
    "notify.only": [[], ["at_max"], ["r" * 64], ["r" * 65], ["At Max"], [f"r{n}" for n in range(51)]],
    "notify.never": [[], ["at_max"], [f"r{n}" for n in range(50)], [f"r{n}" for n in range(51)]],
    "headroom.pod": [
        None,
        {"cpu_millicores": 1, "memory_mib": 1, "count": 1000},
        {"cpu_millicores": 2_000_000, "memory_mib": 64 * 1024 * 1024, "count": 1},
        {"cpu_millicores": 0, "memory_mib": 1},
        {"cpu_millicores": 1, "memory_mib": 1, "count": 1001},
    ],
    "scale_down.budget": [0, 1000, 1001, -1, "0%", "1%", "100%", "101%", "20", "20 %", "x" * 11],
    "scale_down.blackouts": [
        [],
        [dict(CLOCK)],
        [CLOCK | {"days": [], "name": "x"}],
        [CLOCK | {"time_zone": "Mars/" + "x" * 59}],
        [CLOCK | {"time_zone": "Pacific/Kiritimati", "name": "x" * 40, "from": "22:00", "to": "06:00"}],
        [CLOCK | {"min": 3}],
        [CLOCK | {"name": f"w{n}"} for n in range(20)],
        [CLOCK | {"name": f"w{n}"} for n in range(21)],
    ],
    "rotation.drift": [[], ["image"], ["image", "template", "k3s_version"], ["on"], ["image"] * 4],
    "cost.usd_per_hour": [
        {},
        {"t3.small": 0.0},
        {"t3.small": 100_000},
        {"t3.small": -0.01},
        {"T3": 1.0},
        {f"m5.{n}xlarge": 1.0 for n in range(100)},
        {f"m5.{n}xlarge": 1.0 for n in range(101)},
    ],
    "cost.spot_usd_per_hour": [{}, {"t3.small": 0.0}, {"t3.small": 100_000}, {"t3.small": -0.01}, {"T3": 1.0}],
    "cost.baseline_type": [None, "t3.small", "t3", "x" * 41],
    "metrics.matchers": [
        {},
        {"cluster": ""},
        {"cluster": "é ü \" ' \\ {} }} , | = ~ #"},
        {"cluster": "a\nb"},
        {"cluster": "{{ a }}"},
        {"cluster": "x" * 200},
        {"cluster": "x" * 201},
        {"l" * 100: "x"},
        {"__name__": "x"},
        {"job": "x"},
        {"1x": "x"},
        {f"l{n}": "x" for n in range(10)},
        {f"l{n}": "x" for n in range(11)},
    ],
    **{
        f"scale_down.{field}": [[], ["x" * 512], ["x" * 513], [""], [f"n{n}" for n in range(100)], ["n"] * 101]
        for field in ("protected_priority_classes", "protected_namespaces", "movable")
    },
}
WHOLE: Final[dict[str, dict[str, Any]]] = {
    "every time at its shortest": {
        "workers": {"min": 0, "max": 1000, "join_timeout_s": 1},
        "scale_up": {"pending_for_s": 0, "window_s": 2, "cpu_above": 1e-9, "memory_above": 1e-9, "max_step": 1},
        "scale_down": {
            "window_s": 2, "cool_down_s": 0, "min_age_s": 0, "refused_for_s": 0, "max_empty_step": 1,
            "target_margin": 0.0, "cpu_below": 1e-10, "memory_below": 1e-10,
        },
        "drain": {"timeout_s": 1, "force": True},
        "repair": {"not_ready_s": 2, "max_unhealthy_share": 1e-9},
        "interruption": {"grace_s": 0},
        "spot": {
            "storm_share": 1e-9, "storm_window_s": 60, "storm_pause_s": 60, "return_after_s": 0, "return_min_types": 1,
        },
        "capacity": {"back_off_s": 1, "max_back_off_s": 1},
        "metrics": {
            "timeout_s": 0.5, "cluster_interval_s": 1, "utilisation_interval_s": 1, "cpu_rate_window_s": 2,
            "max_age_s": 2,
        },
        "history_days": 1,
    },
    "every time at its longest": {
        "workers": {"min": 2, "max": 1000, "join_timeout_s": 86_400},
        "scale_up": {"pending_for_s": 86_400, "cpu_above": 1.0, "memory_above": 1.0, "max_step": 1000},
        "scale_down": {
            "cool_down_s": 86_400, "min_age_s": 7200, "refused_for_s": 86_400, "max_empty_step": 1000,
            "target_margin": 0.0, "cpu_below": 1.0, "memory_below": 1.0,
        },
        "drain": {"timeout_s": 86_400},
        "repair": {"max_unhealthy_share": 1.0},
        "interruption": {"grace_s": 86_400},
        "spot": {
            "storm_share": 1.0, "storm_window_s": 1800, "storm_pause_s": 1800, "return_after_s": 86_400,
            "return_min_types": 50,
        },
        "blind_growth": {"step": 1000},
        "cost": {
            "max_usd_per_hour": 100_000, "usd_per_hour": {"t3.small": 100}, "other_usd_per_hour": 100_000,
            "baseline_workers": 1000, "baseline_type": "u7in-32tb.224xlarge",
        },
        "capacity": {"back_off_s": 86_400, "max_back_off_s": 86_400},
        "metrics": {"timeout_s": 8, "max_age_s": 86_400},
        "history_days": 3650,
    },
    "as many types as there may be": {"workers": {"instance_types": [*MANY_TYPES], "sizes": MANY_TYPES}},
    "a forecast that looks as far as one may": {
        "forecast": {"mode": "on", "days": 14, "weeks": 8, "horizon_s": 1800, "max_extra": 1000}
    },
    "a forecast of two days": {
        "forecast": {"mode": "shadow", "days": 2, "weeks": 0, "horizon_s": 60, "max_extra": 1, "trend": False}
    },
    "workers for one pod each": {
        "workers": {"instance_types": ["t3.micro"], "max": 1000, "sizes": {}},
        "scale_up": {"max_step": 1000},
    },
    "a machine of EC2's largest": {
        "workers": {"sizes": {"t3.small": {"cpu_millicores": 2_000_000, "memory_mib": 64 * 1024 * 1024}}}
    },
}  # fmt: skip


# ------------------------------------------------------------------------------------------------------------ the walk


def ends(of: inspect.Type) -> list[Any]:
    """The values at the ends of what a field may be. Fails for a number without an end."""
    match of:
        case inspect.Metadata():
            return ends(of.type)
        case inspect.IntType():
            assert of.ge is not None, "a number without an end"
            assert of.le is not None, "a number without an end"
            return [of.ge, of.le]
        case inspect.FloatType():
            low = math.nextafter(of.gt, math.inf) if of.gt is not None else of.ge
            high = math.nextafter(of.lt, -math.inf) if of.lt is not None else of.le
            assert low is not None, "a number without an end"
            assert high is not None, "a number without an end"
            return [low, high]
        case inspect.BoolType():
            return [False, True]
        case inspect.EnumType():
            return [member.value for member in of.cls]
        case inspect.LiteralType():
            return list(of.values)
        case inspect.UnionType():
            return [value for one in of.types for value in ends(one)]
        case inspect.NoneType():
            return [None]
        case _:
            raise AssertionError(f"{of!r} has no ends: give some in STRINGS")


def fields(of: inspect.StructType, path: str = "") -> Iterator[tuple[str, list[Any]]]:
    for field in of.fields:
        name = f"{path}{field.name}"
        if name in STRINGS:
            yield name, STRINGS[name]
        elif isinstance(field.type, inspect.StructType):
            yield from fields(field.type, f"{name}.")
        else:
            yield name, ends(field.type)


def policy_type() -> inspect.StructType:
    found = inspect.type_info(Policy)
    assert isinstance(found, inspect.StructType)
    return found


WALK: Final = [(name, value) for name, values in fields(policy_type()) for value in values]


def text_of(name: str, value: Any) -> str:
    document: dict[str, Any] = {"version": 1}
    *sections, field = name.split(".")
    inner = document
    for section in sections:
        inner = inner.setdefault(section, {})
    inner[field] = value
    return yaml.safe_dump(document, allow_unicode=True)


def test_the_walk_meets_every_field() -> None:
    names = {name for name, _ in WALK}
    assert set(STRINGS) <= names
    assert {"version", "mode", "history_days", "workers.max", "scale_up.max_step", "interruption.grace_s"} <= names
    assert len(names) == sum(
        len(section.type.fields) if isinstance(section.type, inspect.StructType) else 1
        for section in policy_type().fields
    )


@pytest.mark.parametrize(("name", "value"), WALK, ids=[f"{n}={str(v)[:30]}" for n, v in WALK])
def test_a_field_at_its_end_is_carried_through_everything_or_refused_with_one_sentence(name: str, value: Any) -> None:
    carried(text_of(name, value), name.rsplit(".", 1)[-1])


@pytest.mark.parametrize("whole", WHOLE.values(), ids=WHOLE)
def test_whole_policies_at_their_ends_are_carried(whole: dict[str, Any]) -> None:
    assert carried(yaml.safe_dump({"version": 1, **whole}), "") is not None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("scale_up.max_step", 1001),
        ("scale_up.max_step", 0),
        ("scale_down.max_empty_step", 10**30),
        ("metrics.timeout_s", 0.1),
        ("capacity.back_off_s", 86_400),
        ("schedules", [WINDOW | {"name": f"w{n}"} for n in range(21)]),
        ("schedules", [WINDOW | {"time_zone": "Mars/Base"}]),
        ("schedules", [WINDOW | {"min": 1000}]),
        ("forecast.days", 15),
        ("forecast.horizon_s", 59),
        ("notify.most_an_hour", 0),
        ("notify.least", "loud"),
        ("headroom.percent", 91),
        ("rotation.max_age_s", 3599),
        ("rotation.drift", ["ami"]),
        ("scale_down.budget", "101%"),
        ("scale_down.blackouts", [CLOCK | {"name": f"w{n}"} for n in range(21)]),
        ("headroom.pod", {"cpu_millicores": 1}),
        ("workers.sizes", {"t3.small": {"cpu_millicores": 95, "memory_mib": 700}}),
        ("workers.instance_types", ["t3.small", "t3.small"]),
        ("metrics.matchers", {"__name__": "x"}),
        ("metrics.matchers", {"job": "x"}),
        ("cost.max_usd_per_hour", -0.01),
        ("cost.max_usd_per_hour", float("nan")),
        ("cost.other_usd_per_hour", float("inf")),
        ("cost.baseline_type", "t3.small"),
        ("spot.storm_window_s", 1801),
        ("spot.storm_pause_s", 3600),
    ],
)
def test_what_nothing_could_carry_is_refused(name: str, value: Any) -> None:
    assert carried(text_of(name, value), name.rsplit(".", 1)[-1]) is None


@pytest.mark.real_programs
@pytest.mark.parametrize("whole", WHOLE.values(), ids=WHOLE)
def test_prometheus_accepts_the_rules_of_policies_at_their_ends(whole: dict[str, Any], tmp_path: Path) -> None:
    policy = parse_policy(yaml.safe_dump({"version": 1, **whole}))
    for path, text in render(policy, Settings()).items():
        if path.startswith("rules/"):
            file = tmp_path / Path(path).name
            file.write_text(text, encoding="utf-8")
            done = run("promtool", "check", "rules", file)
            assert done.returncode == 0, done.stdout + done.stderr


# ------------------------------------------------------------------------------------------------ what reads the policy


def carried(text: str, named: str) -> Policy | None:
    """The policy if it is accepted, after all that reads it has; None where it is refused with a fitting sentence."""
    policy = accepted(text)
    if isinstance(policy, str):
        assert "\n" not in policy
        assert named in policy, "the sentence names the value"
        return None
    rendered(policy)
    commanded(policy)
    played(policy)
    return policy


def accepted(text: str) -> Policy | str:
    """The policy, or the sentence that refuses it."""
    try:
        policy = parse_policy(text)
        check_instance_types(policy)
    except (PolicyError, UnknownInstanceType) as refused:
        return str(refused)
    return policy


def rendered(policy: Policy) -> None:
    for path, text in (render(policy, Settings()) | render_manifests(policy, "shop", {})).items():
        # libyaml: what Go's YAML was ported from, and seven times as fast.
        assert list(yaml.load_all(text, yaml.CSafeLoader)), path


def commanded(policy: Policy) -> None:
    """What each verb is sent with passes the patterns of the SSM document."""
    document = (ROOT / "scripts" / "embedded-scripts.js").read_text(encoding="utf-8")
    patterns = {
        name: found[1]
        for name in ("timeoutSeconds", "graceSeconds", "notAfter")
        if (found := re.search(rf'{name}: {{.*allowedPattern: "(.*?)"', document)) is not None
    }
    assert len(patterns) == 3
    allowed_s = re.search(r'timeoutSeconds: "(\d+)"', document)
    assert allowed_s is not None
    for verb in Verb:
        for reclaim in (False, True):
            command = node_command(removal(1, RemovalPhase.DRAINING, reclaim=reclaim), verb, policy)
            assert re.fullmatch(patterns["timeoutSeconds"], str(command.timeout_s))
            assert re.fullmatch(patterns["graceSeconds"], str(command.grace_s))
            assert re.fullmatch(patterns["notAfter"], str(command.not_after_s))
            assert command.timeout_s < int(allowed_s[1]), "the document would end the drain before its time"


def rooms_left(policy: Policy, before: int) -> bool:
    """Whether the default pool, in which the first workers are, or another one may have more."""
    first = policy.default_pool
    others = [pool for pool in policy.pools if pool is not first]
    return first.max is None or first.max > before or any(pool.max != 0 for pool in others)


def played(policy: Policy) -> None:
    """A look that grows, one that meets an interruption, and some that follow: none fails, and max holds."""
    windows = (policy.scale_up.window_s, policy.scale_down.window_s, policy.repair.not_ready_s)
    rates = (policy.metrics.cpu_rate_window_s, policy.metrics.utilisation_interval_s)
    known = policy.default_pool.instance_types[0] in CATALOGUE
    cluster = SimCluster(policy, workers=2 if known else 0, history_s=max(windows) + 2.0 * max(rates) + 600)
    cluster.apply(deployment("web", 12))
    cluster.run(30)
    before = len(cluster.workers())
    cluster.sweep()
    taken = cluster.workers()[:1]
    now_s = int(cluster.now_s)
    cluster.sweep(facts=tuple(Notice(kind="interruption", subject=i, received_at_s=now_s) for i in taken))
    cluster.sweep_for(600, every_s=120)
    assert len(cluster.workers()) <= max(policy.workers.max, before)
    if policy.mode is not Mode.ACTIVE or policy.cost.max_usd_per_hour == 0:
        assert cluster.wires.totals["ec2", "launch"] == 0
    elif known and policy.workers.max > before and policy.scale_up.pending_for_s <= 30 and rooms_left(policy, before):
        assert cluster.wires.totals["ec2", "launch"] > 0
