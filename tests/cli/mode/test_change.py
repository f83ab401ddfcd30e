"""The change of the mode beside invocations that write as well."""

import msgspec
import pytest

from autoscaler.cli.change import ATTEMPTS, Contended
from autoscaler.cli.mode.change import change_mode
from autoscaler.model import Lease, Mode, ModeSetting, SchedulingRules, State
from autoscaler.ports import Conflict, StoreUnavailable

PAUSED = ModeSetting(mode=Mode.PAUSED, set_at_s=100, by="ada")


class Contest:
    """A store in memory; before each of our writes somebody may be faster, and our answers may get lost."""

    def __init__(self, *, rivals: int = 0, lost_answers: int = 0) -> None:
        self.state, self.version = State(), 0
        self.rivals, self.lost_answers = rivals, lost_answers
        self.slept: list[float] = []

    def load(self) -> tuple[State, int]:
        return self.state, self.version

    def save(self, state: State, expected_version: int) -> int:
        if self.rivals:
            self.rivals -= 1
            self.version += 1
            self.state = State(fence=self.version, lease=Lease(owner="x", expires_at_s=1), mode=self.state.mode)
        if expected_version != self.version:
            raise Conflict
        self.state, self.version = state, self.version + 1
        if self.lost_answers:
            self.lost_answers -= 1
            raise StoreUnavailable("lost", effect_unknown=True)
        return self.version

    def record(self, *_: object) -> None:
        raise AssertionError("a change of the mode is no decision")

    def rules(self) -> SchedulingRules | None:
        raise AssertionError("a change of the mode needs no rules")

    def keep_rules(self, *_: object) -> None:
        raise AssertionError("a change of the mode tells no rules")

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


def test_the_mode_changes_and_nothing_else() -> None:
    store = Contest(rivals=1)
    assert change_mode(store, PAUSED, sleep=store.sleep) == (None, PAUSED, False)
    assert store.state == State(fence=1, lease=Lease(owner="x", expires_at_s=1), mode=PAUSED), "the rival's work stays"
    assert len(store.slept) == 1
    resumed = ModeSetting(mode=Mode.ACTIVE, set_at_s=200)
    assert change_mode(store, resumed, sleep=store.sleep) == (PAUSED, resumed, True)


def test_a_while_ends_in_the_mode_before_it_also_when_its_answer_was_lost() -> None:
    store = Contest(lost_answers=1)
    store.state = State(mode=ModeSetting(mode=Mode.OBSERVE, set_at_s=50))
    pause = ModeSetting(mode=Mode.PAUSED, set_at_s=100, until_s=200)
    change = change_mode(store, pause, sleep=store.sleep)
    assert change.after == store.state.mode == msgspec.structs.replace(pause, then=Mode.OBSERVE)
    assert store.version == 1, "written once"


def test_a_lost_answer_is_looked_after() -> None:
    store = Contest(lost_answers=1)
    assert change_mode(store, PAUSED, sleep=store.sleep) == (None, PAUSED, False)
    assert (store.state.mode, store.version) == (PAUSED, 1), "written once"


def test_it_gives_up_with_a_sentence() -> None:
    store = Contest(rivals=ATTEMPTS)
    with pytest.raises(Contended, match="try again"):
        change_mode(store, PAUSED, sleep=store.sleep)
    assert store.state.mode is None


def test_a_refused_write_is_not_repeated() -> None:
    class Refusing(Contest):
        def save(self, state: State, expected_version: int) -> int:
            del state, expected_version
            raise StoreUnavailable("AWS refused", code="AccessDeniedException")

    store = Refusing()
    with pytest.raises(StoreUnavailable):
        change_mode(store, PAUSED, sleep=store.sleep)
    assert store.slept == []
