"""What may be wrong with `workers.pools`, a sentence each: what it was, what is allowed, what to do."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from autoscaler.instance_types import InstanceType
from autoscaler.model.rules import Effect
from autoscaler.pools import FLAT_FIELDS, MOST_POOLS, MOST_SUBNETS, WorkerPool, parse_taint
from autoscaler.requirements import faults_of, matching

_TYPE: Final = r"[a-z][a-z0-9-]*\.[a-z0-9-]+"
_NAME: Final = r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?"
_KEY: Final = rf"(?:(?P<prefix>[a-z0-9](?:[a-z0-9.-]{{0,251}}[a-z0-9])?)/)?{_NAME}"
"""Of a label or a taint (Kubernetes documentation, "Labels and Selectors")."""
_VALUE: Final = rf"(?:{_NAME})?"
_OURS: Final = "k3s-autoscaler"
_MAY_SET: Final = ("kubelet.kubernetes.io", "node.kubernetes.io")
"""What a kubelet may set under kubernetes.io beside what it sets by itself; with another label of that domain it does
not start. Source: Kubernetes documentation, "NodeRestriction"."""
_SETS_ITSELF: Final = frozenset({"node.kubernetes.io/instance-type"})
_WORD: Final = r"[a-zA-Z0-9_.,:=/@%+-]+"
"""As scripts/setting-patterns.js: nothing that a shell would take for its own."""
_SETTLED: Final = (
    r"(--?(?:node-name|node-ip|server|s|token|t|token-file|agent-token|node-label|node-taint))(?:=.*)?"
    r"|((?:--kubelet-arg=)?(?:provider-id|node-labels|register-with-taints|hostname-override))=.*"
)
"""Of the kubelet's own, K3s lets an argument take the place of all that it would have given under that name."""
_IMAGE: Final = r"ami-[0-9a-f]{8,17}|(?:/[a-zA-Z0-9_.-]+){1,15}"
_SUBNET: Final = r"subnet-[0-9a-f]{8,17}"


def flat_beside_pools(workers: Mapping[str, object]) -> str:
    """The sentence where both are given, of the section as it stands in the file; empty where one is."""
    beside = [name for name in FLAT_FIELDS if workers.get(name) is not None]
    if not workers.get("pools") or not beside:
        return ""
    fields = " and ".join(f"workers.{name}" for name in beside)
    return f"workers.pools is given beside {fields}: state them in each pool, and leave them out beside the pools"


def faults(pools: Sequence[WorkerPool], types: Mapping[str, InstanceType], *, least_max: int) -> list[str]:
    """Everything wrong. `least_max`: the smallest max of the fleet that ever holds, which must hold all minima."""
    if len(pools) > MOST_POOLS:
        return [f"workers.pools names {len(pools)} pools: at most {MOST_POOLS} are allowed"]
    names = [pool.name for pool in pools]
    found = [f"workers.pools names {name} twice: give each its own name" for name in _repeated(names)]
    for pool in pools:
        found += [f"workers.pools.{pool.name}: {fault}" for fault in _faults_of(pool, types)]
    subnets = {subnet for pool in pools for subnet in pool.subnets}
    if len(subnets) > MOST_SUBNETS:
        found.append(
            f"the subnets of all workers.pools together are {len(subnets)}: at most {MOST_SUBNETS} are allowed"
        )
    least = sum(pool.min for pool in pools)
    if least > least_max:
        found.append(
            f"the min of all workers.pools together is {least}, and the fleet's max is {least_max} at some time: "
            "lower the one, or raise workers.max and the max of its schedules"
        )
    return found


def _faults_of(pool: WorkerPool, types: Mapping[str, InstanceType]) -> Iterator[str]:
    yield from _faults_of_types(pool, types)
    yield from _faults_of_labels(pool)
    yield from _faults_of_taints(pool)
    if pool.max is not None and pool.min > pool.max:
        yield f"min is {pool.min} and max is {pool.max}: min may not exceed max"
    if pool.image and not re.fullmatch(_IMAGE, pool.image):
        yield f"image is {pool.image!r}: give an AMI's id, or the name of a public SSM parameter that holds one"
    for subnet in pool.subnets:
        if not re.fullmatch(_SUBNET, subnet):
            yield f"subnets names {subnet!r}: give the ids of subnets, subnet-0a0a0a0a"
    for subnet in _repeated(pool.subnets):
        yield f"subnets names {subnet} twice: name it once"
    for word in pool.agent_args:
        if not re.fullmatch(_WORD, word):
            yield f"agent_args holds {word!r}: give a word each, of letters, digits and _ . , : = / @ % + -"
        elif settled := re.fullmatch(_SETTLED, word):
            name = settled[1] or settled[2]
            yield f"agent_args holds {name}, which the bootstrap settles (labels and taints are fields): leave it out"


def _faults_of_types(pool: WorkerPool, types: Mapping[str, InstanceType]) -> Iterator[str]:
    asked = pool.requirements
    if asked is None:
        if not pool.instance_types:
            yield "it has neither instance_types nor requirements: give one of them"
        for kind in pool.instance_types:
            if len(kind) > 40 or not re.fullmatch(_TYPE, kind):
                yield f"instance_types names {kind!r}: write EC2's name of a type, such as m7i.large"
        for kind in _repeated(pool.instance_types):
            yield f"instance_types names {kind} twice: EC2 takes each type once, so name it once"
    elif pool.instance_types:
        yield "it has both instance_types and requirements: give one of them"
    elif wrong := faults_of(asked):
        yield from (f"requirements.{fault}" for fault in wrong)
    elif not matching(asked, types, {}):
        yield "requirements fit no instance type that is known: ask for less, or name types under instance_types"


def _faults_of_labels(pool: WorkerPool) -> Iterator[str]:
    for key, value in pool.labels.items():
        if (why := _not_a_label(key)) is not None:
            yield f"labels names {key!r}{why}"
        elif not re.fullmatch(_VALUE, value):
            yield f"labels.{key} is {value!r}: at most 63 letters, digits and . _ - are allowed"


def _not_a_label(key: str) -> str | None:
    found = re.fullmatch(_KEY, key)
    if found is None:
        return ", which is no label of Kubernetes: write name or prefix/name"
    prefix = found["prefix"] or ""
    if prefix == _OURS or key in _SETS_ITSELF:
        return ", which every worker gets by itself: leave it out"
    domains = ("kubernetes.io", "k8s.io")
    theirs = any(prefix == domain or prefix.endswith(f".{domain}") for domain in domains)
    allowed = any(prefix == may or prefix.endswith(f".{may}") for may in _MAY_SET)
    if theirs and not allowed:
        return (
            ", which a kubelet may not set (NodeRestriction): choose a prefix outside kubernetes.io and k8s.io, or "
            "node.kubernetes.io"
        )
    return None


def _faults_of_taints(pool: WorkerPool) -> Iterator[str]:
    places: list[str] = []
    for text in pool.taints:
        try:
            taint = parse_taint(text)
        except ValueError:
            taint = None
        if taint is None or not re.fullmatch(_KEY, taint.key) or not re.fullmatch(_VALUE, taint.value):
            yield f"taints holds {text!r}: write key=value:Effect, the effect being {', '.join(Effect)}"
        elif taint.key.startswith("node.kubernetes.io/"):
            yield f"taints holds {text!r}: Kubernetes sets and lifts that one by a node's state, so choose another key"
        else:
            places.append(f"the key {taint.key} and the effect {taint.effect.value}")
    for place in _repeated(places):
        # Source: Kubernetes, pkg/util/taints, ParseTaints.
        yield f"taints holds two with {place}: no kubelet starts with both"


def _repeated(names: Sequence[str]) -> list[str]:
    return sorted({name for name in names if names.count(name) > 1})
