"""The recorded verdicts of a real kube-scheduler and cluster-autoscaler as questions for our filters and our sizing.

`tests/data/verdicts/README.md` tells the format. The judgement here is what both the bench and the test demand.
"""

import gzip
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from autoscaler.decide.scheduling.cluster import Cluster
from autoscaler.decide.scheduling.filters import first_refusal, refusals
from autoscaler.decide.scheduling.filters.refusal import Plugin
from autoscaler.decide.scheduling.guard import Budget, guaranteed
from autoscaler.decide.scheduling.placing import Template, Trial, Waiting
from autoscaler.decide.scheduling.sizing import Sizing, merged, size
from autoscaler.model.rules import NodeSpec, PodRules
from autoscaler.observe.kubernetes import api, nodes, pods, storage_api
from autoscaler.observe.kubernetes.storage import NO_STORAGE, Storage

Json = Mapping[str, Any]
FILTERS: Final = "filters.json.gz"
SIZING: Final = "sizing.json.gz"
FITS: Final = "fits"
LOOKS: Final = 10_000_000
"""Enough to follow every choice in a recorded case."""
EXPLAINED: Final = {
    "followers": "the estimator gives a class up whose first pod does not fit on an empty new node, although it fits "
    "beside pods that wait as well; we place it in the same look, and for the others take no node more"
}
"""Why an answer may differ from the recorded one and be right. The test demands that each reason is true and needed."""


class Unreadable(Exception):
    """The folder does not hold what is asked of it."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was compared."""

    kind: str
    case: str
    agrees: bool
    difference: str = ""
    """What was recorded and what is ours, where they differ."""
    explained: str = ""
    """Which of the reasons in `EXPLAINED` applies."""


def load(folder: Path, name: str) -> list[Json]:
    """The cases of one file; raises Unreadable."""
    path = folder / name
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            document = json.load(file)
    except (OSError, ValueError) as error:
        raise Unreadable(f"{path} cannot be read: {error}.") from error
    if not isinstance(document, dict) or document.get("format") != 1 or not document.get("cases"):
        raise Unreadable(f"{path} is not of format 1, or has no cases.")
    cases: list[Json] = document["cases"]
    return cases


def pod_rules(pod: Json, storage: Storage = NO_STORAGE, *, bound: bool = False) -> PodRules:
    """A v1.Pod."""
    return pods.pod_rules(msgspec.convert(pod, api.Pod), storage, bound=bound)


def node_spec(node: Json) -> NodeSpec:
    """A v1.Node."""
    return nodes.node_spec(msgspec.convert(node, api.Node))


def storage(case: Json) -> Storage:
    """`pvcs`, `pvs` and `storageclasses` of a case."""
    claims = msgspec.convert(case.get("pvcs", ()), tuple[storage_api.PersistentVolumeClaim, ...])
    volumes = msgspec.convert(case.get("pvs", ()), tuple[storage_api.PersistentVolume, ...])
    classes = msgspec.convert(case.get("storageclasses", ()), tuple[storage_api.StorageClass, ...])
    return Storage(
        {(claim.metadata.namespace, claim.metadata.name): claim for claim in claims},
        {volume.metadata.name: volume for volume in volumes},
        {found.metadata.name: found for found in classes},
    )


def cluster_of(case: Json) -> Cluster:
    """The nodes with the pods that are on them."""
    cluster = Cluster({item["metadata"]["name"]: item["metadata"].get("labels", {}) for item in case["namespaces"]})
    for node in case["nodes"]:
        cluster.add_node(node_spec(node))
    for pod in msgspec.convert(case["pods"], tuple[api.Pod, ...]):
        if not pods.is_finished(pod):
            node = cluster.nodes[pod.spec.node_name]
            cluster.place(pods.pod_rules(pod, bound=True), node, ending=pods.is_ending(pod))
    return cluster


def templates_of(case: Json) -> list[Template]:
    """One, or one for each zone."""
    daemons = tuple(pod_rules(pod, bound=True) for pod in case["template_pods"])
    nodes = case["templates"] if "templates" in case else {"template": case["template"]}
    return [Template(name=name, node=node_spec(node), daemons=daemons) for name, node in nodes.items()]


def waiting_of(case: Json) -> list[Waiting]:
    """The pods that wait, one by one."""
    return [Waiting(pod_rules(pod), 1) for pod in case["pending"]]


# -------------------------------------------------------------------------------------------------------------- filters


def compare_filters(case: Json) -> Iterator[Outcome]:
    """For each node the first refusal, in the scheduler's words, and each plugin asked apart."""
    cluster, rules = cluster_of(case), pod_rules(case["pending"], storage(case))
    for name, verdict in case["verdicts"].items():
        node = cluster.nodes[name]
        refusal = first_refusal(rules, node, cluster)
        ours = None if refusal is None else (refusal.plugin, sorted(refusal.reasons), refusal.before_nodes)
        recorded = None
        if verdict is not None:
            recorded = (verdict["plugin"], sorted(verdict["reasons"]), verdict.get("phase") == "PreFilter")
        where = f"{case['id']} {name}"
        kind = FITS if recorded is None else recorded[0]
        yield _outcome(f"first: {kind}", where, recorded, ours)
        found = refusals(rules, node, cluster)
        rejecting = set() if verdict is None else {verdict["plugin"], *verdict.get("also", ())}
        for plugin in Plugin:
            if plugin is not Plugin.VOLUME_BINDING:  # not recorded apart
                yield _outcome(f"apart: {plugin}", where, plugin in rejecting, plugin in found)


def _outcome(kind: str, case: str, recorded: object, ours: object) -> Outcome:
    agrees = recorded == ours
    return Outcome(
        kind=kind, case=case, agrees=agrees, difference="" if agrees else f"recorded {recorded}, ours {ours}"
    )


# --------------------------------------------------------------------------------------------------------------- sizing


def compare_sizing(case: Json) -> Iterator[Outcome]:
    """Never more nodes and never more pods left over; for zones the guarantee of the exhaustive search."""
    sizing = size(waiting_of(case), templates_of(case), cluster_of(case), at_most=len(case["pending"]))
    kind = f"size: {' '.join(case['tags'])}"
    expect = case["expect"]
    if "minimal" in expect:
        yield _guarded(kind, case, sizing)
        yield from _worst_cases(case)
    else:
        reference = expect.get("loop", expect)
        yield _no_more_than(kind, case, sizing, reference)
        if not case["nodes"] and "lower_bound" in expect:
            possible = sizing.total >= expect["lower_bound"]
            difference = "" if possible else f"{sizing.total} nodes hold what needs {expect['lower_bound']}"
            yield Outcome(kind="size: lower bound", case=case["id"], agrees=possible, difference=difference)


def _no_more_than(kind: str, case: Json, sizing: Sizing, reference: Json) -> Outcome:
    recorded = reference["new_nodes"], len(reference["unschedulable"])
    ours = sizing.total, _pods(sizing)
    if ours[0] <= recorded[0] and ours[1] <= recorded[1]:
        return Outcome(kind=kind, case=case["id"], agrees=True)
    difference = f"recorded {recorded[0]} nodes and {recorded[1]} pods left, ours {ours[0]} and {ours[1]}"
    reason = "followers" if ours[1] < recorded[1] and _fewer_without(case, reference) else ""
    return Outcome(kind=kind, case=case["id"], agrees=False, difference=difference, explained=reason)


def _fewer_without(case: Json, reference: Json) -> bool:
    """Whether we take no node more for what the estimator places, and what it gives up are whole classes."""
    given_up = set(reference["unschedulable"])
    placed = {**case, "pending": [pod for pod in case["pending"] if pod["metadata"]["name"] not in given_up]}
    sizing = size(waiting_of(placed), templates_of(case), cluster_of(case), at_most=len(case["pending"]))
    follows = any(
        pod_rules(pod).affinity for pod in case["pending"] if pod["metadata"]["name"] in given_up
    )  # only affinity makes a pod wait for another
    return follows and sizing.total <= reference["new_nodes"] and not sizing.left


def _guarded(kind: str, case: Json, sizing: Sizing) -> Outcome:
    """One of the safe ways; or one that guarantees more, where the recorded search went no further."""
    safe = case["expect"]["minimal"]["safe"]
    agrees = sizing.new_nodes in safe["solutions"]
    if not agrees and safe["capped"]:
        agrees = _sure(case, sizing.new_nodes) > safe["schedulable"]
    difference = "" if agrees else f"recorded {safe['solutions']}, ours {sizing.new_nodes}"
    return Outcome(kind=kind, case=case["id"], agrees=agrees, difference=difference)


def _worst_cases(case: Json) -> Iterator[Outcome]:
    """What each minimal way guarantees, by our own search."""
    for solution in case["expect"]["minimal"]["solutions"]:
        where = f"{case['id']} {solution['by_zone']}"
        yield _outcome("size: worst case", where, solution["worst"], _sure(case, solution["by_zone"]))


def _sure(case: Json, by_zone: dict[str, int]) -> int:
    cluster = cluster_of(case)
    trial, existing = Trial(cluster), list(cluster.nodes.values())
    for template in templates_of(case):
        for _ in range(by_zone.get(template.name, 0)):
            trial.open(template)
    return guaranteed(trial, merged(waiting_of(case)), existing, Budget(LOOKS), beat=-1)


def _pods(sizing: Sizing) -> int:
    return sum(group.count for group in sizing.left)


# ------------------------------------------------------------------------------------------------------------------ all


def compare(folder: Path) -> Iterator[Outcome]:
    """Everything in the folder. A case that cannot be read is one that differs. Raises Unreadable."""
    questions: tuple[tuple[str, Callable[[Json], Iterator[Outcome]]], ...] = (
        (FILTERS, compare_filters),
        (SIZING, compare_sizing),
    )
    for name, question in questions:
        for case in load(folder, name):
            try:
                yield from list(question(case))
            except (KeyError, TypeError, ValueError, msgspec.ValidationError) as error:
                problem = f"cannot be read: {type(error).__name__} {error}"
                yield Outcome(kind=f"unreadable: {name}", case=_name(case), agrees=False, difference=problem)


def _name(case: Any) -> str:
    return str(case.get("id", "a case without an id")) if isinstance(case, dict) else "a case that is no object"


class Tally(msgspec.Struct):
    """How often one kind was compared, agreed, and differed for a reason."""

    kind: str
    compared: int = 0
    agreed: int = 0
    explained: int = 0


def tallies(outcomes: list[Outcome]) -> list[Tally]:
    """By kind, in the order of their first appearance."""
    counts: dict[str, Tally] = {}
    for outcome in outcomes:
        tally = counts.setdefault(outcome.kind, Tally(outcome.kind))
        tally.compared += 1
        tally.agreed += outcome.agrees
        tally.explained += bool(outcome.explained)
    return sorted(counts.values(), key=lambda tally: tally.kind.partition(":")[0])


def table(counts: list[Tally]) -> list[str]:
    """The tallies for people."""
    return [
        f"{tally.kind:<34} {tally.agreed:>6} of {tally.compared:>6}"
        + (f", {tally.explained} explained" if tally.explained else "")
        for tally in counts
    ]
