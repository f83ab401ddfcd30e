"""Manifests of workloads, as pods that could wait: what an API server and a controller would make of them.

Sources: Kubernetes API reference, apps/v1 and batch/v1 (`replicas` 1 and `parallelism` 1 where they are left out; no
more pods of a Job run than its completions ask for).
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from autoscaler.model import Pod, Resources
from autoscaler.model.rules import OwnerRules, PodRules
from autoscaler.observe.kubernetes import api
from autoscaler.observe.kubernetes.pods import daemon_rules, pod_rules, template_pod

MOST_PODS: Final = 5_000
"""So many are thought through at most."""
DAEMON: Final = "DaemonSet"
REPLICATED: Final = frozenset({"Deployment", "ReplicaSet", "StatefulSet", "ReplicationController"})
KINDS: Final = (*sorted(REPLICATED), "Job", "CronJob", DAEMON, "Pod")
_MADE_BY: Final = {"Deployment": "ReplicaSet", "CronJob": "Job", "Pod": ""}
"""Kind of the owner that pods show, where it is another."""


class BadManifest(ValueError):
    """What is no manifest, in one sentence."""


class Workload(msgspec.Struct, frozen=True, kw_only=True):
    """One manifest's pods."""

    title: str
    """`Deployment shop/web`."""
    daemon: bool
    rules: PodRules
    pods: tuple[Pod, ...]
    """None of a DaemonSet: its pods come with the workers."""
    owner: OwnerRules
    left_out: str
    """What of it is not thought through; empty for nothing."""


class Manifests(msgspec.Struct, frozen=True, kw_only=True):
    """All that were given."""

    workloads: tuple[Workload, ...]
    passed_over: tuple[str, ...]
    """Objects that run no pods: `Service shop/web`."""


def read_manifests(documents: Sequence[Any], *, now_s: int) -> Manifests:
    """The workloads among the objects. `now_s`: when their pods begin to wait. Raises BadManifest."""
    workloads: list[Workload] = []
    passed_over: list[str] = []
    for number, found in enumerate(_flat(documents), start=1):
        if not isinstance(found, Mapping) or not isinstance(found.get("kind"), str):
            raise BadManifest(f"Object {number} is no Kubernetes object: it has no `kind`.")
        title = _title(found)
        if found["kind"] not in KINDS:
            passed_over.append(title)
            continue
        try:
            workloads.append(_workload(found, title, number=number, now_s=now_s))
        except (msgspec.ValidationError, ValueError) as error:
            raise BadManifest(f"{title} (object {number}) is not understood: {str(error).rstrip('.')}.") from error
    if not workloads:
        kinds = ", ".join(KINDS)
        raise BadManifest(f"No object runs pods: {kinds} do; found {', '.join(passed_over[:5]) or 'nothing'}.")
    pods = sum(len(one.pods) for one in workloads)
    if pods > MOST_PODS:
        raise BadManifest(f"These are {pods} pods; up to {MOST_PODS} are thought through: lower `replicas`.")
    return Manifests(workloads=tuple(workloads), passed_over=tuple(passed_over))


def _flat(documents: Sequence[Any]) -> Iterator[Any]:
    for found in documents:
        if isinstance(found, Mapping) and found.get("kind") == "List" and isinstance(found.get("items"), Sequence):
            yield from found["items"]
        elif found is not None:
            yield found


def _title(found: Mapping[str, Any]) -> str:
    metadata = found.get("metadata")
    metadata = metadata if isinstance(metadata, Mapping) else {}
    name = metadata.get("name") or metadata.get("generateName") or "without a name"
    return f"{found['kind']} {metadata.get('namespace') or 'default'}/{name}"


def _workload(found: Mapping[str, Any], title: str, *, number: int, now_s: int) -> Workload:
    kind, _, place = title.partition(" ")
    namespace, _, name = place.partition("/")
    template, count = _template(found, kind)
    pod = template_pod(msgspec.convert(_with_texts(template), api.Pod))
    rules = pod_rules(pod, namespace=namespace)
    left_out = "its volumes: where they may lie is not judged" if rules.claims else ""
    rules = msgspec.structs.replace(rules, claims=(), exclusive_claims=False)
    # A name that no pod has: what is deployed under the same one is another owner.
    owner_name, owner_kind = f"{name} (manifest {number})", _MADE_BY.get(kind, kind)
    if kind == DAEMON:
        rules = msgspec.structs.replace(daemon_rules(pod, namespace=namespace), claims=(), exclusive_claims=False)
    pods = tuple(
        Pod(
            namespace=namespace,
            name=f"{name}-{index}" if kind != "Pod" else owner_name,
            uid=f"manifest-{number}-{index}",
            node="",
            owner_kind=owner_kind,
            owner_name=owner_name if owner_kind else "",
            priority_class="",
            requests=_requests(rules),
            unschedulable_since_s=now_s,
        )
        for index in range(0 if kind == DAEMON else count)
    )
    shown = pods[0].owner if pods else f"{namespace}/{kind}/{owner_name}"
    return Workload(
        title=title,
        daemon=kind == DAEMON,
        rules=rules,
        pods=pods,
        owner=OwnerRules(owner=shown, rules=rules, seen_at_s=now_s),
        left_out=left_out,
    )


def _template(found: Mapping[str, Any], kind: str) -> tuple[Mapping[str, Any], int]:
    """A pod's own fields, and how many run at once."""
    if kind == "Pod":
        return found, 1
    spec = _map(found, "spec")
    if kind == "CronJob":
        spec = _map(_map(spec, "jobTemplate"), "spec")
    template = _map(spec, "template")
    if kind in REPLICATED:
        return template, _number(spec, "replicas", 1)
    if kind in {"Job", "CronJob"}:
        at_once = _number(spec, "parallelism", 1)
        return template, min(at_once, _number(spec, "completions", at_once))
    return template, 0


def _map(found: Mapping[str, Any], field: str) -> Mapping[str, Any]:
    value = found.get(field)
    if not isinstance(value, Mapping):
        raise BadManifest(f"it has no `{field}`")
    return value


def _number(found: Mapping[str, Any], field: str, default: int) -> int:
    value = found.get(field)
    if value is None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise BadManifest(f"`{field}` is {value!r}: a whole number from 0 is allowed")
    return value


def _with_texts(value: Any, *, quantities: bool = False) -> Any:
    """With quantities as text: a manifest may write `cpu: 2`, an API server gives `"2"`."""
    if isinstance(value, Mapping):
        return {
            key: _with_texts(one, quantities=quantities or key in {"requests", "limits", "overhead"})
            for key, one in value.items()
            if one is not None
        }
    if isinstance(value, list):
        return [_with_texts(one, quantities=quantities) for one in value]
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return str(value) if quantities and is_number else value


def _requests(rules: PodRules) -> Resources:
    asked = dict(rules.requests)
    return Resources(cpu_millicores=asked.get("cpu", 0), memory_bytes=asked.get("memory", 0), pods=1)
