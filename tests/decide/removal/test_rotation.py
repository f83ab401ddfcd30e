"""Who is due to be replaced, and what that is compared with."""

from typing import Any

import msgspec
import pytest

from autoscaler.model import Decision, NewWorkers, Snapshot, State
from autoscaler.policy import Rotation, Workers
from autoscaler.policy_text import PolicyError, parse_policy
from tests.decide.builders import NOW_S, OLD_S, Machine, decided, full, node, pod, policy, snapshot, use, worker

DAY_S = 86_400
V1, V2 = "v1.36.2+k3s1", "v1.37.0+k3s1"
BUSY = use(cpu=0.5)


def drifting(*causes: Any, **changes: Any) -> Rotation:
    return Rotation(drift=causes, **changes)


def aged(number: int, age_s: int, **node_changes: Any) -> Machine:
    changes = {"launched_at_s": NOW_S - age_s}
    return full(number, of=changes, **node_changes)


def look(
    machines: list[Machine], rotation: Rotation, *, templates: tuple[tuple[str, str], ...] | None = None, **more: Any
) -> Decision:
    seen = msgspec.structs.replace(snapshot(machines, utilisation=BUSY), templates=templates)
    if "servers" in more:
        seen = with_servers(seen, more.pop("servers"))
    return decided(seen, None, policy(**{"rotation": rotation, **more}))


def with_servers(seen: Snapshot, versions: tuple[str, ...]) -> Snapshot:
    servers = tuple(
        msgspec.structs.replace(
            node(900 + n), name=f"server-{n}", instance_id=f"i-s{n}", control_plane=True, kubelet_version=version
        )
        for n, version in enumerate(versions)
    )
    return msgspec.structs.replace(seen, nodes=(*seen.nodes, *servers))


def replaced(decision: Decision) -> tuple[str, str] | None:
    replacement = decision.state.replacement
    return None if replacement is None else (replacement.instance_id, replacement.cause)


# --------------------------------------------------------------------------------------------------------------- age


@pytest.mark.parametrize(("market", "rotates"), [("on-demand", True), ("spot", False)])
def test_whoever_holds_pods_of_one_market_is_rotated_where_one_of_that_market_comes(market: str, rotates: bool) -> None:
    """The base is two: what is launched for one of them is on demand."""
    picky = pod("picky", node_selector=(("k3s_autoscaler_capacity_type", market),))
    old = worker(1, pods=[picky, pod("p1", cpu=1000)], of={"launched_at_s": NOW_S - 9 * DAY_S})
    decision = look([old, full(2)], Rotation(max_age_s=4 * DAY_S), workers=Workers(market="spot", on_demand_base=2))
    assert (replaced(decision) is not None) is rotates
    if not rotates:
        assert any("would not fit with 1 new t3.small" in row.text for row in decision.blocked)


def test_the_oldest_of_those_that_are_too_old_goes_first() -> None:
    machines = [aged(1, 3 * DAY_S), aged(2, 9 * DAY_S), aged(3, 5 * DAY_S)]
    decision = look(machines, Rotation(max_age_s=4 * DAY_S))
    assert replaced(decision) == ("i-002", "max_age")
    assert decision.growth is not None
    assert (decision.reason, decision.growth.workers) == ("rotation", (NewWorkers("t3.small", 1, "us-east-1a"),))
    assert decision.state.removals == ()
    assert decision.message == (
        "Launching 1 worker: worker-i-002 is replaced, since it is 777600 s old and rotation.max_age_s is 345600, "
        "and what replaces it comes first."
    )


@pytest.mark.parametrize(("age_s", "due"), [(DAY_S - 1, False), (DAY_S, True)])
def test_at_its_age_and_not_before(age_s: int, due: bool) -> None:
    decision = look([aged(1, age_s), full(2)], Rotation(max_age_s=DAY_S))
    assert (replaced(decision) is not None) is due


def test_who_may_never_leave_cannot_be_too_old() -> None:
    with pytest.raises(
        PolicyError, match=r"rotation.max_age_s is 3600 and scale_down.min_age_s is 7200: a worker that"
    ):
        parse_policy("version: 1\nrotation: {max_age_s: 3600}\nscale_down: {min_age_s: 7200}")


def test_a_worker_that_is_not_ours_is_never_too_old() -> None:
    static = full(1, of={"managed": False, "launched_at_s": OLD_S})
    assert replaced(look([static, full(2)], Rotation(max_age_s=3600))) != ("i-001", "max_age")


# ------------------------------------------------------------------------------------------------------------- drift


@pytest.mark.parametrize(
    ("theirs", "servers", "due"),
    [
        pytest.param(V1, (V2,), True, id="another version"),
        pytest.param(V2, (V1,), True, id="a newer one than the servers'"),
        pytest.param(V1, (V1,), False, id="the same"),
        pytest.param("", (V2,), False, id="its own is not known"),
        pytest.param(V1, (V2, V2), True, id="two servers alike"),
        pytest.param(V1, (V1, V2), False, id="servers in the middle of an upgrade"),
        pytest.param(V1, (V2, ""), False, id="a server's is not known"),
        pytest.param(V1, (), False, id="no server shown"),
    ],
)
def test_k3s_is_compared_with_what_all_servers_run(theirs: str, servers: tuple[str, ...], due: bool) -> None:
    machines = [full(1, kubelet_version=theirs), full(2, kubelet_version=V1 if V1 in servers else V2)]
    decision = look(machines, drifting("k3s_version"), servers=servers)
    assert replaced(decision) == (("i-001", "k3s_version") if due else None)


@pytest.mark.parametrize(
    ("changes", "templates", "due"),
    [
        pytest.param({"template_id": "lt-1", "template_version": "6"}, (("lt-1", "7"),), True, id="an older version"),
        pytest.param({"template_id": "lt-1", "template_version": "7"}, (("lt-1", "7"),), False, id="the latest"),
        pytest.param({"template_id": "lt-2", "template_version": "1"}, (("lt-1", "7"),), False, id="another template"),
        pytest.param({}, (("lt-1", "7"),), False, id="launched without one"),
        pytest.param({"template_id": "lt-1", "template_version": "6"}, (), False, id="none is known"),
        pytest.param(
            {"template_id": "lt-2", "template_version": "1"}, (("lt-1", "7"), ("lt-2", "3")), True, id="of several"
        ),
    ],
)
def test_a_template_is_compared_with_its_own_latest_version(
    changes: dict[str, str], templates: tuple[tuple[str, str], ...], due: bool
) -> None:
    decision = look([full(1, of=changes), full(2)], drifting("template"), templates=templates)
    assert replaced(decision) == (("i-001", "template") if due else None)


def test_the_latest_version_is_asked_for_where_a_rotation_could_begin_and_nowhere_else() -> None:
    machines = [full(1), full(2)]
    assert look(machines, drifting("template")).asks.templates
    assert not look(machines, drifting("image", "k3s_version")).asks.templates
    old = look([aged(1, DAY_S), full(2)], drifting("template", max_age_s=DAY_S))
    assert (replaced(old), old.asks.templates) == (("i-001", "max_age"), False), "one is due already"
    idle = decided(snapshot([worker(n) for n in (1, 2, 3)]), None, policy(rotation=drifting("template")))
    assert (idle.reason, idle.asks.templates) == ("consolidation", False), "a shrink comes first"


def test_an_image_is_compared_with_that_of_the_last_launch_from_the_same_template() -> None:
    def of(number: int, image: str, template: str = "lt-1") -> Machine:
        return full(number, of={"image_id": image, "template_id": template, "launched_at_s": OLD_S + number})

    rotation = drifting("image")
    assert replaced(look([of(1, "ami-a"), of(2, "ami-b")], rotation)) == ("i-001", "image")
    assert replaced(look([of(1, "ami-b"), of(2, "ami-b")], rotation)) is None
    assert replaced(look([of(1, "ami-a"), of(2, "ami-b", "lt-arm")], rotation)) is None
    assert replaced(look([of(1, ""), of(2, "ami-b")], rotation)) is None
    assert replaced(look([of(1, "ami-a"), of(2, "")], rotation)) is None
    started_again = full(
        3, of={"image_id": "ami-a", "template_id": "lt-1", "launched_at_s": NOW_S - 700}, created_at_s=OLD_S
    )
    assert replaced(look([of(2, "ami-b"), started_again], rotation)) == ("i-003", "image"), "EC2 tells its last start"


# ---------------------------------------------------------------------------------------------------------- by what


@pytest.mark.parametrize(
    ("types", "launched"),
    [
        (("t3.small",), "t3.small"),
        (("t3.medium", "t3.small"), "t3.small"),
        (("t3.micro", "t3.medium", "t3.large"), "t3.medium"),
    ],
)
def test_it_is_of_the_same_type_or_the_first_that_holds_as_much(types: tuple[str, ...], launched: str) -> None:
    old = worker(1, pods=[pod("a"), pod("b")], of={"launched_at_s": NOW_S - DAY_S})
    decision = look([old, full(2)], Rotation(max_age_s=DAY_S), types=types)
    assert decision.growth is not None
    assert decision.growth.workers[0].instance_type == launched


def test_nothing_is_launched_that_its_pods_would_not_fit_on() -> None:
    decision = look([aged(1, DAY_S), full(2)], Rotation(max_age_s=DAY_S), types=("t3.micro",))
    assert (replaced(decision), decision.growth) == (None, None)
    told = {b.subject: b.reason for b in decision.blocked}
    assert told["worker-i-001"] == "max_age: no_room: its pods would not fit with 1 new t3.micro either"


def test_without_a_rotation_nobody_is_due() -> None:
    decision = look([aged(1, 900 * DAY_S, kubelet_version=V1), full(2)], Rotation(), servers=(V2,))
    assert (decision.reason, decision.state, decision.asks) == ("at_min", State(fence=9), decision.asks)
    assert not decision.asks
