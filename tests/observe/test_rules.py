"""A server's answer to the verb `rules`: what it says arrives whole, and what does not read is named, not guessed."""

import base64
import gzip
import json
from typing import Any

import pytest

from autoscaler.model.rules import (
    ImmediateClaim,
    MissingClaim,
    NodeSpec,
    OwnerRules,
    PodRules,
    SchedulingRules,
    WaitingClaim,
    WaitingWord,
)
from autoscaler.observe.rules import BadRules, merged, pack_kept, parse_rules, unpack_kept
from autoscaler.observe.rules_text import ROOM_CHARS
from autoscaler.simulator.rules_answer import answer
from tests.decide.scheduling.clusters import ZONE

NOW_S = 1_793_520_000
DAY_S = 86_400


def text_of(packed: str) -> str:
    return gzip.decompress(base64.b64decode(packed)).decode()


def packed(*lines: str, **left_out: int) -> str:
    """Lines below a header that counts them, as a server prints them."""
    shown: dict[str, int] = {}
    for line in lines:
        kind = line.partition("\t")[0]
        shown[kind] = shown.get(kind, 0) + 1
    header = f"rules\t1\t\t{json.dumps({'shown': shown, 'left_out': left_out})}"
    return base64.b64encode(gzip.compress("".join(f"{line}\n" for line in (header, *lines)).encode())).decode()


def owner(key: str = "shop/ReplicaSet/web-1", names: str = "", **pod: Any) -> str:
    return f"owner\t{key}\t{names}\t{json.dumps({'spec': {'containers': []}} | pod)}"


def read(*lines: str, **left_out: int) -> SchedulingRules:
    return parse_rules(packed(*lines, **left_out), answered_at_s=NOW_S)


# ------------------------------------------------------------------------------------------------------------- reading


def test_a_cluster_without_pods() -> None:
    assert read() == SchedulingRules(answered_at_s=NOW_S)


def test_nodes_that_are_alike_share_a_line() -> None:
    nodes = tuple(
        NodeSpec(
            name=f"worker-{n}",
            labels=(("kubernetes.io/hostname", f"worker-{n}"), ("zone", "a")),
            allocatable=(("cpu", 1930), ("memory", 3_919_668), ("pods", 110)),
        )
        for n in range(3)
    )
    told = answer(SchedulingRules(answered_at_s=NOW_S, nodes=nodes))
    assert len(text_of(told).splitlines()) == 2
    assert parse_rules(told, answered_at_s=NOW_S).nodes == nodes


def test_a_template_asks_what_the_api_server_gives_to_its_pods() -> None:
    spec = {
        "hostNetwork": True,
        "containers": [
            {"name": "a", "resources": {"limits": {"cpu": "1", "memory": "64"}, "requests": {"cpu": "100m"}}},
            {"name": "b", "ports": [{"containerPort": 9100}]},
        ],
        "resources": {"limits": {"cpu": "2", "hugepages-2Mi": "2Mi"}},
    }
    (daemon,) = read(f"daemon\tkube-system/DaemonSet/exporter\t\t{json.dumps({'spec': spec})}").daemons
    assert daemon.rules.requests == (("cpu", 100), ("hugepages-2Mi", 2 * 1024**2), ("memory", 64))
    assert daemon.shown == (("cpu", 100), ("hugepages-2Mi", 0), ("memory", 64))
    assert [port.port for port in daemon.rules.host_ports] == [9100]
    keys = {toleration.key.removeprefix("node.kubernetes.io/") for toleration in daemon.rules.tolerations}
    assert keys == {
        "not-ready",
        "unreachable",
        "disk-pressure",
        "memory-pressure",
        "pid-pressure",
        "unschedulable",
        "network-unavailable",
    }


def test_what_is_shown_is_told_only_where_the_pod_asks_as_a_whole() -> None:
    containers = [{"name": "c", "resources": {"requests": {"cpu": "100m", "example.com/gpu": "1"}}}]
    plain, whole = read(
        owner(spec={"containers": containers, "overhead": {"cpu": "50m"}}),
        owner("shop/Job/j", spec={"containers": containers, "resources": {"requests": {"cpu": "900m"}}}),
    ).owners
    assert (plain.rules.requests, plain.shown) == ((("cpu", 150), ("example.com/gpu", 1)), ())
    assert (whole.rules.requests, whole.shown) == (
        (("cpu", 900), ("example.com/gpu", 1)),
        (("cpu", 100), ("example.com/gpu", 1)),
    )


def test_what_is_not_shown_at_all_is_told_as_nothing() -> None:
    """Kubernetes 1.34 on: the pod asks, and its containers ask nothing. Nothing to show is not all there is."""
    [whole] = read(owner(spec={"containers": [{"name": "c"}], "resources": {"requests": {"cpu": "900m"}}})).owners
    assert (whole.rules.requests, whole.shown) == ((("cpu", 900),), (("cpu", 0),))


def test_two_revisions_of_one_owner_name_their_pods() -> None:
    spec = {"containers": [], "nodeSelector": {"disk": "ssd"}}
    found = read(
        owner("shop/StatefulSet/db", "db-0,db-1", metadata={"labels": {"controller-revision-hash": "db-1"}}),
        owner("shop/StatefulSet/db", "db-2", spec=spec),
    ).owners
    assert [known.pods for known in found] == [("db-0", "db-1"), ("db-2",)]
    assert found[1].rules.node_selector == (("disk", "ssd"),)


def test_names_as_long_and_odd_as_they_may_be() -> None:
    key, value = f"{'e' * 249}.com/{'k' * 63}", "v" * 63
    (known,) = read(
        owner('shop/Wörk \\"load\\"/größe-ü', metadata={"labels": {key: value, "empty": "", "odd": "a_b.C-1"}})
    ).owners
    assert known.owner == 'shop/Wörk "load"/größe-ü'
    assert known.rules.labels == tuple(sorted({key: value, "empty": "", "odd": "a_b.C-1"}.items()))


def test_claims_in_every_state() -> None:
    volumes = [{"name": n, "persistentVolumeClaim": {"claimName": n}} for n in ("gone", "now", "later", "bound")]
    claim = {"spec": {"resources": {"requests": {"storage": "1Gi"}}, "accessModes": ["ReadWriteOncePod"]}}

    def line(kind: str, key: str, found: object) -> str:
        return f"{kind}\t{key}\t\t{json.dumps(found)}"

    found = read(
        line("claim", "shop/now", claim),
        line("claim", "shop/later", {"spec": claim["spec"] | {"storageClassName": "local", "volumeMode": "Block"}}),
        line("claim", "shop/bound", {"spec": claim["spec"] | {"volumeName": "pv"}}),
        line(
            "class",
            "local",
            {"provisioner": "kubernetes.io/no-provisioner", "volumeBindingMode": "WaitForFirstConsumer"},
        ),
        line("volume", "pv", {"metadata": {"labels": {ZONE: "a", "other": "x"}}, "spec": {}}),
        *[
            line(
                "volume",
                f"free-{mode}",
                {
                    "spec": {
                        "storageClassName": "local",
                        "volumeMode": mode,
                        "accessModes": ["ReadWriteOncePod"],
                        "capacity": {"storage": "2Gi"},
                    },
                    "status": {"phase": "Available"},
                },
            )
            for mode in ("Block", "Filesystem")
        ],
        owner(spec={"containers": [], "volumes": volumes}),
    )
    assert found.malformed == ()
    (known,) = found.owners
    gone, now, later, bound = known.rules.claims
    assert (gone, now) == (MissingClaim(name="gone"), ImmediateClaim(name="now"))
    assert isinstance(later, WaitingClaim)
    assert (later.provisioned, [volume.name for volume in later.free]) == (False, ["free-Block"])
    assert getattr(bound, "zones", None) == ((ZONE, "a"),)
    assert known.rules.exclusive_claims


# ----------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("told", "word"),
    [
        pytest.param("", "no gzip|cut off", id="nothing"),
        pytest.param("!!!!", "no gzip", id="no base64"),
        pytest.param("ü", "no gzip", id="no ASCII"),
        pytest.param(base64.b64encode(b"plain text").decode(), "no gzip", id="no gzip"),
        pytest.param(base64.b64encode(gzip.compress(b"hello\n")).decode(), "none", id="no lines of ours"),
        pytest.param(base64.b64encode(gzip.compress(b"rules\t2\t\t{}\n")).decode(), "format '2'", id="another version"),
        pytest.param(base64.b64encode(gzip.compress(b"rules\t1\t\t{x\n")).decode(), "header", id="header"),
        pytest.param(packed("pod\tx\t\t{}"), "unknown kind 'pod'", id="another kind of line"),
        pytest.param(
            base64.b64encode(gzip.compress(b'rules\t1\t\t{"shown":{"owner":2}}\nowner\ta\t\t{}\n')).decode(),
            "1 lines, and should have 2",
            id="a line is missing",
        ),
    ],
)
def test_what_is_no_answer_is_refused_in_one_sentence(told: str, word: str) -> None:
    with pytest.raises(BadRules, match=word) as refused:
        parse_rules(told, answered_at_s=NOW_S)
    assert "\n" not in str(refused.value)


def test_every_cut_of_an_answer_is_refused() -> None:
    whole = packed(owner(metadata={"labels": {f"k{n}": "v" for n in range(40)}}))
    for length in range(0, len(whole), 12):
        with pytest.raises(BadRules):
            parse_rules(whole[:length], answered_at_s=NOW_S)


@pytest.mark.parametrize(
    ("pod", "why"),
    [
        ({"spec": {"tolerations": [{"operator": "Gt"}]}}, "operator Gt"),
        ({"spec": {"tolerations": [{"effect": "Never"}]}}, "Never"),
        ({"spec": {"containers": [{"resources": {"requests": {"cpu": "lots"}}}]}}, "lots"),
        ({"spec": {"nodeSelector": ["disk"]}}, "nodeSelector"),
        ({"metadata": {"labels": {"a": 1}}}, "labels"),
        (
            {"spec": {"topologySpreadConstraints": [{"whenUnsatisfiable": "DoNotSchedule", "maxSkew": 1}]}},
            "topologyKey",
        ),
        ({"metadata": {}}, "spec"),
    ],
)
def test_an_owner_that_does_not_read_is_unknown_and_named(pod: dict[str, Any], why: str) -> None:
    broken = f"owner\tshop/Job/broken\t\t{json.dumps(pod)}"
    found = read(owner(), broken)
    assert [known.owner for known in found.owners] == ["shop/ReplicaSet/web-1"]
    ((named, sentence),) = found.malformed
    assert named == "shop/Job/broken"
    assert why in sentence


def test_an_owner_is_unknown_as_a_whole() -> None:
    found = read(
        owner("shop/StatefulSet/db", "db-0"),
        "owner\tshop/StatefulSet/db\tdb-1\t{",
        "unreadable\tshop/Job/odd\t\ta line break in schedulerName",
        owner("shop/Job/odd", "odd-1"),
    )
    assert found.owners == ()
    assert {named for named, _ in found.malformed} == {"shop/StatefulSet/db", "shop/Job/odd"}


def test_an_owner_with_a_claim_that_does_not_read_is_unknown_not_without_it() -> None:
    volumes = [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]
    found = read("claim\tshop/data\t\t{}", owner(spec={"containers": [], "volumes": volumes}))
    assert found.owners == ()
    assert [named for named, _ in found.malformed] == ["claim shop/data", "shop/ReplicaSet/web-1"]


@pytest.mark.parametrize(
    "claim",
    [
        {"volumeName": "lost"},
        {"storageClassName": "gone"},
        {"storageClassName": "late", "selector": {"matchLabels": {"a": "b"}}},
    ],
)
def test_a_claim_that_is_not_understood_makes_its_owner_unknown(claim: dict[str, Any]) -> None:
    volumes = [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]
    spec = {"resources": {"requests": {"storage": "1"}}} | claim
    found = read(
        f"claim\tshop/data\t\t{json.dumps({'spec': spec})}",
        'class\tlate\t\t{"volumeBindingMode":"WaitForFirstConsumer"}',
        owner(spec={"containers": [], "volumes": volumes}),
    )
    assert (found.owners, [named for named, _ in found.malformed]) == ((), ["shop/ReplicaSet/web-1"])


def test_other_lines_that_do_not_read_are_named_too() -> None:
    found = read("node\t\ta,b\t{x", "budget\tshop/web\t\t[]", "waiting\tshop/p\t\t{}", "namespace\tshop\t\t{}")
    assert [named for named, _ in found.malformed] == ["node a b", "budget shop/web"]
    assert (found.waiting, found.namespaces) == ((WaitingWord(pod="shop/p"),), (("shop", ()),))


def test_what_did_not_fit_is_counted() -> None:
    found = read(owner(), owner=7, unreadable=1, node=3, volume=2)
    assert (found.left_out, found.incomplete) == (8, ("nodes",))


def test_a_long_answer_is_cut_by_whole_lines_from_its_end() -> None:
    many = tuple(
        OwnerRules(
            owner=f"shop/Job/j{n}",
            rules=PodRules(namespace="shop", labels=((f"k{hash((n, 7))}", f"v{hash((n, 9))}"),)),
            seen_at_s=NOW_S,
        )
        for n in range(4000)
    )
    told = answer(SchedulingRules(answered_at_s=NOW_S, owners=many))
    found = parse_rules(told, answered_at_s=NOW_S)
    assert ROOM_CHARS - 200 < len(told) <= ROOM_CHARS
    assert found.owners == many[: len(found.owners)]
    assert found.left_out == 4000 - len(found.owners) > 0


# ---------------------------------------------------------------------------------------------------------------- kept


def known(name: str, *, seen_at_s: int = NOW_S, pods: tuple[str, ...] = (), priority: int = 0) -> OwnerRules:
    rules = PodRules(namespace="shop", priority=priority)
    return OwnerRules(owner=f"shop/{name}", rules=rules, pods=pods, seen_at_s=seen_at_s)


def told(*owners: OwnerRules, at_s: int = NOW_S, **more: Any) -> SchedulingRules:
    return SchedulingRules(answered_at_s=at_s, owners=owners, **more)


def test_owners_that_are_not_shown_stay_for_a_day() -> None:
    kept = told(known("Job/a"), known("Job/b", seen_at_s=NOW_S - DAY_S + 60), at_s=NOW_S, left_out=9)
    later = merged(kept, told(known("Job/c", seen_at_s=NOW_S + 60), at_s=NOW_S + 60))
    assert [owner.owner for owner in later.owners] == ["shop/Job/c", "shop/Job/a", "shop/Job/b"]
    assert (later.answered_at_s, later.left_out) == (NOW_S + 60, 0)
    assert [owner.owner for owner in merged(later, told(at_s=NOW_S + 61)).owners] == ["shop/Job/c", "shop/Job/a"]
    assert merged(None, kept) is kept


def test_what_is_told_of_an_owner_replaces_all_that_was_kept_of_it() -> None:
    kept = told(known("StatefulSet/db"), known("Job/odd"))
    fresh = told(
        known("StatefulSet/db", pods=("db-0",), priority=1),
        known("StatefulSet/db", pods=("db-1",), priority=2),
        malformed=(("shop/Job/odd", "why"),),
    )
    assert merged(kept, fresh) == fresh


def test_the_kept_record_is_bounded_and_the_oldest_fall_out() -> None:
    many = [
        OwnerRules(
            owner=f"shop/Job/j{n}",
            rules=PodRules(namespace="shop", labels=((f"k{hash((n, 7))}", f"v{hash((n, 9))}{hash((n, 11))}"),)),
            seen_at_s=NOW_S - n,
        )
        for n in range(15_000)
    ]
    kept = pack_kept(told(*reversed(many)))
    assert 250_000 < len(kept) <= 350_000
    found = unpack_kept(kept)
    assert list(found.owners) == many[: len(found.owners)]
    assert pack_kept(found) == kept


def test_a_record_that_is_too_large_without_owners_too_is_kept_as_one_that_knows_nothing() -> None:
    words = tuple(WaitingWord(pod=f"shop/p{hash((n, 7))}", message=f"m{hash((n, 9))}") for n in range(30_000))
    kept = pack_kept(told(known("Job/a"), waiting=words))
    assert len(kept) <= 350_000
    found = unpack_kept(kept)
    assert (found.owners, found.waiting) == ((), ())
    assert "waiting" in found.incomplete


@pytest.mark.parametrize(
    "record",
    [b"", b"garbage", gzip.compress(b"{}"), gzip.compress(b'{"answered_at_s":1}')[:-9]],
    ids=["nothing", "garbage", "another form", "cut off"],
)
def test_a_record_that_does_not_read_is_refused(record: bytes) -> None:
    with pytest.raises(BadRules):
        unpack_kept(record)
