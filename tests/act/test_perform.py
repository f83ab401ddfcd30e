"""Effects carried out, and what each answer means."""

from typing import Any

import msgspec
import pytest

from autoscaler.act.effects import Effect, SendCommand, SendLaunch, Terminate, due_effects
from autoscaler.act.holder import Holder, LostLease
from autoscaler.act.perform import LANDED_CODES, Actor
from autoscaler.model import (
    THROTTLES,
    Backoff,
    LaunchOverride,
    LaunchResult,
    Lease,
    Mode,
    ModeSetting,
    Pool,
    RemovalPhase,
    State,
    cause_of,
)
from autoscaler.ports import CommandsUnavailable, FleetUnavailable
from autoscaler.state.backoffs import LAUNCH_PATH, codes_told, path_held
from autoscaler.state.transitions import failure_told
from tests.act.fakes import Clock, Commands, Fleet, Store
from tests.act.test_holder import take_over
from tests.decide.builders import NOW_S, SERVER, ZONES, iid, launch, policy, removal, snapshot, worker

A, B = ZONES
LEASE = Lease(owner="me", expires_at_s=NOW_S + 40)
POOL = Pool(instance_type="t3.small", zone=A)
ALL_TOLD = LaunchResult(instance_ids=(iid(1), iid(2)))
GONE = "InsufficientInstanceCapacity"


class Bench:
    """An Actor on fakes, with one state."""

    def __init__(self, state: State, fleet: Fleet | None = None, commands: Commands | None = None) -> None:
        self.store = Store(msgspec.structs.replace(state, lease=LEASE))
        self.fleet = fleet or Fleet()
        self.commands = commands or Commands()
        self.holder = Holder(self.store, "me", self.store.state, self.store.version)

    def perform(
        self, *, clock: Clock | None = None, effects: tuple[Effect, ...] | None = None, at_s: int = NOW_S
    ) -> Actor:
        actor = Actor(self.holder, self.fleet, self.commands, clock or Clock(at_s), policy())
        seen = snapshot([worker(1), worker(2)], at_s=at_s)
        actor.perform(due_effects(self.store.state, seen, policy()) if effects is None else effects)
        return actor

    def perform_and_tell(self, *, at_s: int = NOW_S) -> Actor:
        """As the loop does: what people have heard of is kept in mind after it."""
        actor = self.perform(at_s=at_s)
        self.holder.apply(lambda state: codes_told(state, actor.codes))
        for operation_id, cause in actor.told:
            self.holder.apply(lambda state, what=(operation_id, cause): failure_told(state, *what))  # type: ignore[misc]
        return actor


def launching(*answers: LaunchResult | Exception, state: State | None = None) -> tuple[Bench, Actor]:
    bench = Bench(state if state is not None else State(launches=(launch(count=2),)), Fleet(*answers))
    return bench, bench.perform()


def refusal(code: str, *, effect_unknown: bool = False) -> FleetUnavailable:
    return FleetUnavailable(f"AWS refused: {code}", code=code, effect_unknown=effect_unknown)


# -------------------------------------------------------------------------------------------------------------- launch


def test_a_launch_that_gave_all() -> None:
    bench, actor = launching(ALL_TOLD)
    [operation] = bench.store.state.launches
    assert (operation.instance_ids, operation.landed, operation.unidentified) == ((iid(1), iid(2)), True, 0)
    assert actor.done == ["EC2 launched 2 of 2 workers: i-001, i-002"]
    assert actor.failures == []
    assert bench.fleet.requests == [operation.request], "to the letter as it was frozen"


def test_a_launch_that_gave_some_is_told_and_its_pool_left_alone() -> None:
    bench, actor = launching(LaunchResult(instance_ids=(iid(1),), errors=((GONE, "t3.small", A),)))
    [operation] = bench.store.state.launches
    assert (operation.instance_ids, operation.unidentified) == ((iid(1),), 0)
    assert [(b.pool, b.error_code, b.until_s) for b in bench.store.state.backoffs] == [(POOL, GONE, NOW_S + 120)]
    assert actor.failures == ["EC2 gave 1 of 2 workers (InsufficientInstanceCapacity)"]


def test_a_launch_that_gave_nothing_is_over() -> None:
    bench, actor = launching(LaunchResult(errors=((GONE, "t3.small", A), (GONE, "t3.large", A))))
    assert bench.store.state.launches == ()
    assert {b.pool.instance_type for b in bench.store.state.backoffs} == {"t3.small", "t3.large"}
    assert actor.failures == ["EC2 gave 0 of 2 workers (InsufficientInstanceCapacity)"]


def test_another_pool_that_covered_for_one_leaves_neither_alone() -> None:
    bench, _ = launching(LaunchResult(instance_ids=(iid(1), iid(2)), errors=((GONE, "t3.large", A),)))
    assert bench.store.state.backoffs == ()


@pytest.mark.parametrize("code", ["InvalidParameterValue", "UnauthorizedOperation", "SomethingNew"])
def test_whatever_a_pool_fails_with_it_is_left_alone(code: str) -> None:
    bench, actor = launching(LaunchResult(instance_ids=(iid(1),), errors=((code, "t3.small", A),)))
    assert [(b.pool, b.error_code, b.until_s) for b in bench.store.state.backoffs] == [(POOL, code, NOW_S + 120)]
    assert actor.failures == [f"EC2 gave 1 of 2 workers ({code})"]


def test_a_pool_that_ec2_was_too_busy_for_holds_every_launch_for_seconds() -> None:
    bench, _ = launching(LaunchResult(errors=(("InternalError", "t3.small", A),)))
    assert bench.store.state.launches == ()
    [held] = bench.store.state.backoffs
    assert (held.pool, held.error_code) == (LAUNCH_PATH, "InternalError")
    assert 5 <= held.until_s - NOW_S <= 10


@pytest.mark.parametrize(
    ("errors", "code"),
    [
        pytest.param((("VcpuLimitExceeded", "", ""),), "VcpuLimitExceeded", id="an error of no pool"),
        pytest.param((), "no reason given", id="nothing at all"),
    ],
)
def test_what_ec2_says_of_no_pool_holds_for_each(errors: tuple[tuple[str, str, str], ...], code: str) -> None:
    bench, actor = launching(LaunchResult(errors=errors))
    assert [(b.pool, b.error_code) for b in bench.store.state.backoffs] == [(POOL, code)]
    assert actor.failures == [f"EC2 gave 0 of 2 workers ({code})"]


def test_ec2s_own_words_are_told_as_far_as_they_are_short() -> None:
    answer = LaunchResult(
        errors=((GONE, "t3.small", A), ("UnauthorizedOperation", "t3.large", A)),
        words=((GONE, "We currently do not have sufficient capacity."), ("UnauthorizedOperation", "x" * 4000)),
    )
    _, actor = launching(answer)
    [told] = actor.failures
    assert told.startswith(f"EC2 gave 0 of 2 workers ({GONE}: We currently do not have sufficient capacity.; Unauth")
    assert len(told) < 500


def test_a_full_answer_ends_the_back_off_of_its_pools() -> None:
    old = Backoff(pool=POOL, error_code=GONE, until_s=NOW_S - 5, failures=4)
    other = msgspec.structs.replace(old, pool=Pool(instance_type="t3.small", zone=B))
    bench, _ = launching(ALL_TOLD, state=State(launches=(launch(count=2),), backoffs=(old, other)))
    assert bench.store.state.backoffs == (other,)


def test_a_call_that_is_refused_for_capacity_leaves_its_pools_alone() -> None:
    operation = launch(count=2)
    request = msgspec.structs.replace(
        operation.request,
        overrides=(
            *operation.request.overrides,
            LaunchOverride(instance_type="t3.large", subnet_id="subnet-a", zone=A),
        ),
    )
    state = State(launches=(msgspec.structs.replace(operation, request=request),))
    bench, actor = launching(refusal("VcpuLimitExceeded"), state=state)
    assert bench.store.state.launches == ()
    assert [(b.pool.instance_type, b.failures) for b in bench.store.state.backoffs] == [
        ("t3.small", 1),
        ("t3.large", 1),
    ]
    assert actor.failures == ["launch l1: AWS refused: VcpuLimitExceeded"]


@pytest.mark.parametrize(
    "code", ["UnauthorizedOperation", "InvalidFleetConfig", "PendingVerification", "SomethingNew", *sorted(THROTTLES)]
)
def test_a_call_that_is_refused_for_anything_else_is_over_and_holds_every_launch(code: str) -> None:
    """What was turned away at the door did nothing: no operation has to stay for it, and a fresh look asks anew."""
    others = (launch("l2"), launch("l3", sent_at_s=NOW_S))
    bench, actor = launching(refusal(code), state=State(launches=(launch(count=2), *others)))
    assert len(bench.fleet.requests) == 1, "the second was not sent"
    assert [o.operation_id for o in bench.store.state.launches] == ["l3"], "it may have been sent before"
    held = path_held(bench.store.state, NOW_S)
    assert held is not None
    assert (held.error_code, held.failures) == (code, 1)
    assert (held.until_s - NOW_S == 120) is (cause_of(code) in {"permanent", "unknown"})
    assert actor.failures == [f"launch l1: AWS refused: {code}", f"launch l2 was not sent ({code})"]
    assert bench.perform(at_s=held.until_s - 1).codes == {}
    assert len(bench.fleet.requests) == 1


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(refusal("InternalError", effect_unknown=True), id="a broken EC2: it may have landed"),
        pytest.param(refusal("ReadTimeoutError", effect_unknown=True), id="a lost answer: it may have landed"),
        pytest.param(refusal("ConnectTimeoutError"), id="never connected: EC2 refused nothing"),
        pytest.param(refusal("EndpointConnectionError"), id="no route: EC2 refused nothing"),
        pytest.param(refusal("NoCredentialsError"), id="no credentials: EC2 was never asked"),
        pytest.param(refusal(""), id="no code"),
    ],
)
def test_a_launch_that_ec2_did_not_answer_stays_open_and_goes_out_again_to_the_letter(error: FleetUnavailable) -> None:
    state = State(launches=(launch(count=2),))
    bench = Bench(state, Fleet(error, ALL_TOLD))
    actor = bench.perform()
    assert bench.store.state.launches == state.launches, "nothing of it changed"
    assert actor.codes == {error.code: False}
    assert len(actor.failures) == 1
    bench.perform(at_s=NOW_S + 4)
    assert len(bench.fleet.requests) == 1, "not at once"
    bench.perform(at_s=NOW_S + 10)
    assert bench.fleet.requests[0] == bench.fleet.requests[1]
    assert bench.store.state.backoffs == ()


def test_a_copy_that_is_refused_says_nothing_of_an_earlier_one_whose_answer_was_lost() -> None:
    again = msgspec.structs.replace(launch(count=2), sent_at_s=NOW_S)
    bench, actor = launching(refusal("UnauthorizedOperation"), state=State(launches=(again,)))
    [operation] = bench.store.state.launches
    assert (operation.landed, operation.unidentified) == (True, 2), "waited for, and never sent again"
    assert [b.pool for b in bench.store.state.backoffs] == [LAUNCH_PATH]
    assert len(actor.failures) == 1


@pytest.mark.parametrize("code", sorted(LANDED_CODES))
def test_a_token_that_ec2_knows_means_that_it_landed(code: str) -> None:
    bench, _ = launching(refusal(code))
    [operation] = bench.store.state.launches
    assert (operation.landed, operation.unidentified) == (True, 2), "found by tag, never sent again"
    assert bench.perform().failures == []
    assert len(bench.fleet.requests) == 1


# ------------------------------------------------------------------------------------------------------------ commands


def test_a_command_that_was_taken_is_noted() -> None:
    bench = Bench(State(removals=(removal(1, sent=False),)))
    actor = bench.perform()
    [operation] = bench.store.state.removals
    assert operation.command is not None
    assert (operation.command.command_id, operation.command.server_id, operation.command.sent_at_s) == (
        "c1",
        SERVER.instance_id,
        NOW_S,
    )
    assert actor.done == ["drain of worker-i-001 was sent to i-0aaa"]


def test_a_question_about_a_machine_whose_node_nobody_knows_is_told_by_its_instance() -> None:
    asking = removal(1, RemovalPhase.INSPECTING, node_name="", sent=False)
    assert Bench(State(removals=(asking,))).perform().done == ["inspect of i-001 was sent to i-0aaa"]
    mute = Commands(CommandsUnavailable("x", code="InvalidInstanceId"))
    assert Bench(State(removals=(asking,)), commands=mute).perform().failures == ["inspect of i-001: x"]


@pytest.mark.parametrize(
    ("error", "attempts"),
    [
        pytest.param(CommandsUnavailable("x", code="InvalidInstanceId"), 1, id="this server is not there: the next"),
        pytest.param(CommandsUnavailable("x", code="ThrottlingException"), 0, id="throttled: the same again"),
        pytest.param(CommandsUnavailable("x", code="ReadTimeoutError", effect_unknown=True), 0, id="a lost answer"),
        pytest.param(CommandsUnavailable("x", code="EndpointConnectionError"), 0, id="SSM not reached"),
    ],
)
def test_a_command_that_was_not_taken_is_sent_again(error: CommandsUnavailable, attempts: int) -> None:
    bench = Bench(State(removals=(removal(1, sent=False),)), commands=Commands(error))
    actor = bench.perform()
    [operation] = bench.store.state.removals
    assert (operation.command, operation.attempts, operation.phase) == (None, attempts, RemovalPhase.DRAINING)
    assert actor.failures == ["drain of worker-i-001: x"]
    assert actor.done == []


# ----------------------------------------------------------------------------------------------------------- terminate


DENIED = "UnauthorizedOperation"


def test_why_launches_fail_is_news_once_until_it_changes_or_they_give() -> None:
    """Each is a fresh operation, as a later look opens it."""
    at_s, news, vain = NOW_S, [], []
    state = State()
    for number, code in enumerate([DENIED, DENIED, GONE, DENIED, "", DENIED]):
        answer = LaunchResult(errors=((code, "t3.small", A),)) if code else LaunchResult(instance_ids=(iid(1),))
        bench = Bench(msgspec.structs.replace(state, launches=(launch(f"l{number}"),)), Fleet(answer))
        actor = bench.perform_and_tell(at_s=at_s)
        news.append(actor.fresh_failure)
        vain.append(actor.in_vain)
        state, at_s = bench.store.state, at_s + 3000
    assert news == [True, False, True, True, False, True]
    assert vain == [False, True, False, False, False, False]


def test_a_terminate_changes_no_state() -> None:
    bench = Bench(State(removals=(removal(1, RemovalPhase.TERMINATING, sent=False),)))
    actor = bench.perform()
    assert (bench.fleet.terminated, bench.store.saves) == ([iid(1)], [])
    assert actor.done == ["terminate of i-001 was sent"]


def test_a_terminate_that_failed_is_told_and_comes_again() -> None:
    fleet = Fleet(refuse_terminate=refusal("RequestLimitExceeded"))
    bench = Bench(State(removals=(removal(1, RemovalPhase.TERMINATING, sent=False),)), fleet)
    assert bench.perform().failures == ["terminate of i-001: AWS refused: RequestLimitExceeded"]
    bench.perform(at_s=NOW_S + 4)
    assert bench.fleet.terminated == [iid(1)], "not at once"
    bench.perform(at_s=NOW_S + 10)
    assert bench.fleet.terminated == [iid(1), iid(1)]


@pytest.mark.parametrize(
    ("code", "most"), [("RequestLimitExceeded", 30), ("UnauthorizedOperation", 6), ("SomethingNew", 6)]
)
def test_a_terminate_that_fails_for_an_hour_is_tried_ever_more_rarely_and_told_once(code: str, most: int) -> None:
    going = removal(1, RemovalPhase.TERMINATING, sent=False)
    bench = Bench(State(removals=(going,)), Fleet(refuse_terminate=refusal(code)))
    news = [bench.perform_and_tell(at_s=NOW_S + s).fresh_failure for s in range(0, 3600, 10)]
    assert news.count(True) == 1
    assert 5 <= len(bench.fleet.terminated) <= most, "360 looks"
    bench.fleet.refuse_terminate = None
    bench.perform(at_s=NOW_S + 7200)
    [operation] = bench.store.state.removals
    assert (operation.attempts, operation.retry_at_s, operation.told_failure) == (0, None, "")


def test_a_failure_is_news_once_until_its_cause_changes_or_it_ends() -> None:
    answers = {"UnauthorizedOperation": True, "Unavailable": True, "": False}
    bench = Bench(State(removals=(removal(1, RemovalPhase.TERMINATING, sent=False),)))
    at_s = NOW_S
    for code, fails in [*answers.items(), ("Unavailable", True)]:
        bench.fleet.refuse_terminate = refusal(code) if fails else None
        fresh = [bench.perform_and_tell(at_s=at_s + after_s).fresh_failure for after_s in (3000, 6000, 9000)]
        assert fresh == [fails, False, False]
        at_s += 9000


def test_news_of_a_command_that_no_server_takes_is_told_once() -> None:
    error = CommandsUnavailable("x", code="InvalidInstanceId")
    bench = Bench(State(removals=(removal(1, RemovalPhase.DELETING, sent=False),)), commands=Commands(error))
    assert [bench.perform().fresh_failure for _ in range(2)] == [True, True], "nobody has heard of it"
    assert [bench.perform_and_tell().fresh_failure for _ in range(2)] == [True, False]


def test_an_answer_that_is_lost_is_no_news_of_what_is_known_to_fail() -> None:
    """A server whose agent is away, and a call in three that times out: each told the other anew."""
    bench = Bench(State(removals=(removal(1, RemovalPhase.DELETING, sent=False),)))
    news = []
    for code in ("", "InvalidInstanceId", "", "InvalidInstanceId", "AccessDeniedException", ""):
        bench.commands = Commands(CommandsUnavailable("x", code=code))
        news.append(bench.perform_and_tell().fresh_failure)
    assert news == [True, True, False, False, True, False]


PROTECTED = FleetUnavailable(
    "AWS refused to terminate i-001: OperationNotPermitted: The instance 'i-001' may not be terminated. Modify its "
    "'disableApiTermination' instance attribute and try again.",
    code="OperationNotPermitted",
)


def test_what_is_not_permitted_for_another_reason_is_not_told_as_protection() -> None:
    going = removal(1, RemovalPhase.TERMINATING, sent=False)
    bench = Bench(State(fence=7, removals=(going,)), Fleet(refuse_terminate=refusal("OperationNotPermitted")))
    actor = bench.perform()
    assert actor.done == ["worker-i-001 is given back: EC2 does not permit its termination; EC2's own words say why"]
    assert [r.phase for r in bench.store.state.removals] == [RemovalPhase.UNCORDONING]


def test_a_worker_that_is_protected_from_termination_is_handed_back() -> None:
    bench = Bench(
        State(fence=7, removals=(removal(1, RemovalPhase.TERMINATING, sent=False, attempts=2),)),
        Fleet(refuse_terminate=PROTECTED),
    )
    actor = bench.perform()
    [operation] = bench.store.state.removals
    assert (operation.phase, operation.fence, operation.attempts) == (RemovalPhase.UNCORDONING, 7, 0)
    assert (operation.phase_since_s, operation.command, operation.told_failure) == (NOW_S, None, "")
    [refused] = bench.store.state.held_workers
    assert (refused.node_name, refused.until_s - NOW_S) == ("worker-i-001", 86_400), "a day"
    assert actor.fresh_failure
    assert actor.done == [
        "worker-i-001 is given back: EC2 protects it from termination; "
        "switch the protection off, or terminate it yourself"
    ]


@pytest.mark.parametrize(
    ("operation", "error", "left"),
    [
        pytest.param({"node_name": ""}, PROTECTED, [], id="without a Node there is nothing to uncordon"),
        pytest.param({"reclaim": True}, PROTECTED, [RemovalPhase.TERMINATING], id="EC2 ends it by itself"),
        pytest.param(
            {},
            refusal("OperationNotPermitted", effect_unknown=True),
            [RemovalPhase.TERMINATING],
            id="an answer that says nothing",
        ),
        pytest.param({}, refusal("UnauthorizedOperation"), [RemovalPhase.TERMINATING], id="our own role: mended soon"),
    ],
)
def test_who_is_handed_back(operation: dict[str, Any], error: FleetUnavailable, left: list[RemovalPhase]) -> None:
    going = removal(1, RemovalPhase.TERMINATING, sent=False, **operation)
    bench = Bench(State(removals=(going,)), Fleet(refuse_terminate=error))
    bench.perform()
    assert [r.phase for r in bench.store.state.removals] == left
    assert [r.node_name for r in bench.store.state.held_workers] == ([iid(1)] if not left else [])


# ------------------------------------------------------------------------------------------------------- time and lease


def test_one_failure_does_not_hold_up_the_others() -> None:
    state = State(
        launches=(launch("l1"), launch("l2")),
        removals=(removal(1, RemovalPhase.TERMINATING, sent=False),),
    )
    bench = Bench(state, Fleet(refusal("VcpuLimitExceeded"), LaunchResult(instance_ids=(iid(9),))))
    actor = bench.perform()
    assert len(bench.fleet.requests) == 2
    assert bench.fleet.terminated == [iid(1)]
    assert len(actor.failures) == 1


def test_no_effect_starts_without_the_time_for_it() -> None:
    state = State(launches=(launch("l1"), launch("l2")))
    bench = Bench(state, Fleet(LaunchResult(instance_ids=(iid(9),)), LaunchResult(instance_ids=(iid(8),))))
    actor = bench.perform(clock=Clock(NOW_S, remaining_s=25.0, spends_s=20.0))
    assert len(bench.fleet.requests) == 1
    assert actor.done[-1] == "the time of this invocation is used up; the next look goes on"
    assert not bench.store.state.launches[1].landed


@pytest.mark.parametrize("remaining_s", [0.0, 5.0, 7.0])
def test_the_last_seconds_belong_to_nobody(remaining_s: float) -> None:
    operation = removal(1, RemovalPhase.TERMINATING, sent=False)
    bench = Bench(State(removals=(operation,)))
    bench.perform(clock=Clock(NOW_S, remaining_s=remaining_s), effects=(Terminate(operation=operation),))
    assert bench.fleet.terminated == []


def test_without_the_lease_nothing_more_is_done() -> None:
    state = State(launches=(launch("l1"), launch("l2")))
    bench = Bench(state, Fleet(LaunchResult(instance_ids=(iid(9),)), LaunchResult(instance_ids=(iid(8),))))
    take_over(bench.store)
    with pytest.raises(LostLease):
        bench.perform()
    assert len(bench.fleet.requests) == 1, "the first had been on its way; its instances carry its tag"


def test_every_kind_of_effect_is_known() -> None:
    assert {SendLaunch, SendCommand, Terminate} == set(Effect.__args__)


# --------------------------------------------------------------------------------------------------- an operator's word


def pause(store: Store) -> None:
    word = ModeSetting(mode=Mode.PAUSED, set_at_s=NOW_S)
    store.put(msgspec.structs.replace(store.state, mode=word))


def test_a_pause_that_comes_while_we_act_stops_the_next_effect() -> None:
    """The save after the first launch meets the operator's word, and brings it here."""
    bench = Bench(State(launches=(launch("l1", count=2), launch("l2", count=2))), Fleet(ALL_TOLD, ALL_TOLD))
    bench.store = bench.holder._store = Store(bench.store.state, before=[pause])
    actor = bench.perform()
    assert len(bench.fleet.requests) == 1
    assert bench.store.state.launches[0].landed, "what was done is saved all the same"
    assert actor.done[-1] == "the mode became paused meanwhile: what is left waits until it is active"
