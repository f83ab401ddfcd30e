"""`workers.pools` in the policy: what is accepted, what it means, and the sentence for what is not."""

from pathlib import Path

import pytest
import yaml

from autoscaler.instance_types import CATALOGUE, generation_of
from autoscaler.policy import Policy
from autoscaler.policy_text import PolicyError, parse_policy
from autoscaler.pools import FLAT_FIELDS, further_templates
from autoscaler.requirements import MOST_TYPES, Requirements, faults_of, matching

ROOT = Path(__file__).parent.parent


def policy(workers: str) -> Policy:
    return parse_policy(f"version: 1\nworkers: {{{workers}}}\n")


def one(fields: str) -> str:
    return f"pools: [{{name: a, {fields}}}]"


def test_the_flat_fields_are_the_short_form_of_one_pool() -> None:
    [pool] = policy("instance_types: [t3.large, t3.small], market: spot, on_demand_base: 2").pools
    assert (pool.name, pool.instance_types, pool.market, pool.on_demand_base) == (
        "general",
        ("t3.large", "t3.small"),
        "spot",
        2,
    )
    assert further_templates((pool,)) == ()


def test_each_pool_stands_as_it_is_written() -> None:
    text = """
version: 1
workers:
  max: 30
  pools:
    - {name: general, requirements: {cpu: 2-4, arch: [arm64]}, weight: 3}
    - name: gpu
      instance_types: [g4dn.xlarge]
      market: spot
      on_demand_base: 1
      on_demand_share: 0.5
      labels: {team: ml, node.kubernetes.io/purpose: train}
      taints: ["nvidia.com/gpu=true:NoSchedule", "slow:PreferNoSchedule"]
      min: 1
      max: 4
      image: /aws/service/eks/gpu
      volume_gb: 100
      subnets: [subnet-0a0a0a0a]
      agent_args: ["--kubelet-arg=max-pods=50"]
"""
    general, gpu = parse_policy(text).pools
    assert set(general.archs) == {"arm64"}
    assert (gpu.min, gpu.max, gpu.volume_gb, gpu.subnets) == (1, 4, 100, ("subnet-0a0a0a0a",))
    assert [(t.key, t.value, str(t.effect)) for t in gpu.parsed_taints] == [
        ("nvidia.com/gpu", "true", "NoSchedule"),
        ("slow", "", "PreferNoSchedule"),
    ]


@pytest.mark.parametrize("field", FLAT_FIELDS)
def test_a_flat_field_beside_pools_is_refused(field: str) -> None:
    value = {"instance_types": "[t3.small]", "market": "spot"}.get(field, "1")
    with pytest.raises(PolicyError, match=f"workers.pools is given beside workers.{field}: state them in each pool"):
        policy(f"{field}: {value}, {one('instance_types: [t3.small]')}")


@pytest.mark.parametrize(
    ("workers", "sentence"),
    [
        (one(""), "workers.pools.a: it has neither instance_types nor requirements"),
        (one("instance_types: [t3.small], requirements: {cpu: 2}"), "it has both instance_types and requirements"),
        (one("instance_types: [t3.small, t3.small]"), "instance_types names t3.small twice"),
        (one("instance_types: [T3.small]"), "instance_types names 'T3.small': write EC2's name of a type"),
        (one("requirements: {cpu: 8-2}"), "requirements.cpu is '8-2'.*write the smaller one first"),
        (one("requirements: {cpu: many}"), "requirements.cpu is 'many': write 2-8, >=5"),
        (one("requirements: {memory: 2-8}"), "requirements.memory is '2-8': write 2-8 GiB"),
        (one("requirements: {cpu: 2 GiB}"), "requirements.cpu is '2 GiB': write 2-8, >=5"),
        ("pools: [{name: a-, instance_types: [t3.small]}]", "workers.pools.a-.name is 'a-'"),
        (one("requirements: {cpu: 3}"), "requirements fit no instance type that is known"),
        (one("requirements: {arch: [riscv]}"), "is 'riscv': write arm64 or amd64"),
        (one("instance_types: [t3.small], min: 3, max: 2"), "min is 3 and max is 2"),
        (one("instance_types: [t3.small], min: 11"), "the min of all workers.pools together is 11.*max is 10"),
        (one("instance_types: [t3.small], image: x"), "image is 'x': give an AMI's id"),
        (one("instance_types: [t3.small], subnets: [net-1]"), "subnets names 'net-1'"),
        (one("instance_types: [t3.small], agent_args: ['--token=x']"), "agent_args holds --token"),
        (one("instance_types: [t3.small], agent_args: ['--node-label=a=b']"), "agent_args holds --node-label"),
        (one("instance_types: [t3.small], agent_args: ['--node-ip=10.0.0.1']"), "agent_args holds --node-ip, which"),
        *(
            (
                one(f"instance_types: [t3.small], agent_args: ['--kubelet-arg={name}=a=b']"),
                f"agent_args holds --kubelet-arg={name}, which the bootstrap settles",
            )
            for name in ("provider-id", "node-labels", "register-with-taints", "hostname-override")
        ),
        (
            one("instance_types: [t3.small], agent_args: [--kubelet-arg, node-labels=a=b]"),
            "agent_args holds node-labels",
        ),
        (one("instance_types: [t3.small], agent_args: ['a b']"), "agent_args holds 'a b': give a word each"),
        (one("instance_types: [t3.small], agent_args: ['$(x)']"), "agent_args holds"),
        (one("instance_types: [t3.small], labels: {node-role.kubernetes.io/gpu: x}"), "NodeRestriction"),
        (one("instance_types: [t3.small], labels: {x.k8s.io/a: x}"), "NodeRestriction"),
        (one("instance_types: [t3.small], labels: {k3s-autoscaler/pool: x}"), "every worker gets by itself"),
        (one("instance_types: [t3.small], labels: {'a b': x}"), "labels names 'a b', which is no label"),
        (one("instance_types: [t3.small], labels: {a: 'b c'}"), "labels.a is 'b c'"),
        (one("instance_types: [t3.small], taints: ['a=b']"), "taints holds 'a=b': write key=value:Effect"),
        (
            one("instance_types: [t3.small], taints: ['a=b:NoSchedule', 'a=c:NoSchedule']"),
            "taints holds two with the key a and the effect NoSchedule: no kubelet starts with both",
        ),
        (one("instance_types: [t3.small], taints: ['a:Never']"), "NoSchedule, PreferNoSchedule, NoExecute"),
        (one("instance_types: [t3.small], taints: ['node.kubernetes.io/x:NoSchedule']"), "by a node's state"),
        ("pools: [{name: a, instance_types: [t3.small]}, {name: a, instance_types: [t3.small]}]", "names a twice"),
        (f"pools: [{', '.join(f'{{name: p{n}, instance_types: [t3.small]}}' for n in range(9))}]", "at most 8"),
    ],
)
def test_what_is_wrong_is_told_in_one_sentence(workers: str, sentence: str) -> None:
    with pytest.raises(PolicyError, match=sentence) as refused:
        policy(workers)
    assert "\n" not in str(refused.value)


def test_everything_wrong_is_told_at_once() -> None:
    with pytest.raises(PolicyError) as refused:
        policy("pools: [{name: a, min: 99, image: x}, {name: b, instance_types: [t3.small], taints: [x]}]")
    assert all(
        words in str(refused.value) for words in ("pools.a: it has neither", "pools.a: image", "pools.b: taints", "99")
    )


def test_minima_have_room_at_every_hour_of_the_schedules() -> None:
    with pytest.raises(PolicyError, match=r"together is 3, and the fleet's max is 2 at some time"):
        parse_policy(
            "version: 1\nworkers: {min: 0, pools: [{name: a, instance_types: [t3.small], min: 3}]}\n"
            "schedules: [{name: night, time_zone: UTC, from: 22:00, to: 06:00, min: 0, max: 2}]\n"
        )


def test_a_label_that_a_kubelet_may_set_is_accepted() -> None:
    [pool] = policy(
        one("instance_types: [t3.small], labels: {node.kubernetes.io/x: y, example.com/a: '', b: c.d_e-f}")
    ).pools
    assert len(pool.labels) == 3


# --------------------------------------------------------------------------------------------------- requirements


@pytest.mark.parametrize(
    ("asked", "some", "none"),
    [
        (Requirements(cpu="2-4"), {"t3.small", "m7i.xlarge"}, {"m7i.2xlarge", "c6g.medium"}),
        (Requirements(cpu=8), {"m7i.2xlarge"}, {"m7i.xlarge", "m7i.4xlarge"}),
        (Requirements(cpu=">=16"), {"m7i.4xlarge"}, {"m7i.2xlarge"}),
        (Requirements(memory="<=2 GiB"), {"t3.small", "t3.nano"}, {"t3.medium"}),
        (Requirements(memory_per_cpu="2-4 GiB"), {"c7i.large", "m7i.large"}, {"r7i.large", "t3.small"}),
        (Requirements(memory_per_cpu="0.5 - 1 GiB"), {"t3.small"}, {"t3.medium"}),
        (Requirements(arch=("arm64",)), {"t4g.small", "m8g.large"}, {"t3.small"}),
        (Requirements(generation=">=7"), {"m7i.large", "m8g.large"}, {"m6i.large", "t3.small"}),
        (Requirements(generation=3), {"t3.small", "t3a.small"}, {"t4g.small"}),
        (Requirements(exclude=("t3.nano", "m*", "r?i")), {"t3.small"}, {"t3.nano", "m7i.large", "r7i.large"}),
        (Requirements(exclude=("*.large",)), {"t3.small"}, {"m7i.large"}),
        (Requirements(), {"t3.small"}, {"g4dn.xlarge"}),
        (Requirements(extended={"nvidia.com/gpu": "1"}), {"g4dn.xlarge"}, {"t3.small", "g4dn.12xlarge"}),
        (Requirements(extended={"nvidia.com/gpu": ">=4"}), {"g4dn.12xlarge"}, {"g4dn.xlarge"}),
    ],
)  # fmt: skip
def test_which_types_have_it(asked: Requirements, some: set[str], none: set[str]) -> None:
    assert faults_of(asked) == []
    found = set(matching(asked, CATALOGUE, {}))
    assert some <= found
    assert not none & found


def test_the_order_is_the_same_everywhere_the_cheapest_first_and_what_has_no_price_last() -> None:
    types = {name: CATALOGUE[name] for name in ("m7i.large", "t3.small", "t3a.small")} | {
        "x9.tiny": CATALOGUE["t3.nano"],
        "x9.huge": CATALOGUE["m7i.4xlarge"],
    }
    expected = ("t3a.small", "t3.small", "m7i.large", "x9.tiny", "x9.huge")
    assert matching(Requirements(), types, {}) == expected
    assert matching(Requirements(), dict(reversed(types.items())), {}) == expected
    assert matching(Requirements(), types, {"m7i.large": 0.001})[0] == "m7i.large", "the operator's own price"


def test_no_more_types_are_thought_of_than_a_list_may_name() -> None:
    [pool] = policy(one("requirements: {cpu: '>=1'}")).pools
    assert len(pool.instance_types) == MOST_TYPES
    assert matching(Requirements(cpu=">=1"), CATALOGUE, {})[:MOST_TYPES] == pool.instance_types


def test_types_of_the_operators_own_are_among_them() -> None:
    [pool] = policy(
        "sizes: {x9.gpu: {cpu_millicores: 3000, memory_mib: 4096, extended: {example.com/tpu: 2}}}, "
        + one("requirements: {cpu: 3, extended: {example.com/tpu: '2'}}")
    ).pools
    assert pool.instance_types == ("x9.gpu",)


@pytest.mark.parametrize(
    ("name", "generation"),
    [("t3a.small", 3), ("m7i-flex.large", 7), ("g4dn.xlarge", 4), ("u7in-32tb.x", 7), ("mac.x", 0)],
)
def test_generations(name: str, generation: int) -> None:
    assert generation_of(name) == generation


def test_a_pool_with_both_architectures_needs_a_template_for_each() -> None:
    chosen = policy(
        "pools: [{name: general, instance_types: [t3.small, t4g.small]}, {name: gpu, instance_types: [g4dn.xlarge]}]"
    )
    assert [(pool.name, arch) for pool, arch in further_templates(chosen.pools)] == [
        ("general", "arm64"),
        ("gpu", "amd64"),
    ]


def test_the_committed_policy_shows_pools_that_are_valid() -> None:
    """The comment in policy.yml, as whoever deletes its `#` gets it."""
    lines = (ROOT / "policy.yml").read_text(encoding="utf-8").splitlines()
    start = next(n for n, line in enumerate(lines) if line == "# workers:")
    shown = []
    for line in lines[start:]:
        if not line.startswith("#"):
            break
        shown.append(line.removeprefix("# "))
    parsed = parse_policy(yaml.safe_dump({"version": 1, **yaml.safe_load("\n".join(shown))}))
    assert len(parsed.pools) == 2
