"""Carry out effects. Before each: enough time left. After each: its answer is saved."""

from collections import deque
from collections.abc import Sequence
from typing import Final, assert_never

import msgspec

from autoscaler.act.effects import Effect, SendCommand, SendLaunch, Terminate
from autoscaler.act.holder import Holder
from autoscaler.model import (
    NO_CODE,
    ON_DEMAND,
    THROTTLES,
    Cause,
    CommandRef,
    Fallback,
    LaunchOperation,
    LaunchResult,
    Mode,
    Pool,
    RemovalOperation,
    State,
    cause_of,
)
from autoscaler.policy import Policy
from autoscaler.ports import Clock, CommandsUnavailable, Fleet, FleetUnavailable, NodeCommands, PortError
from autoscaler.state.backoffs import (
    LAUNCH_PATH,
    back_off,
    call_answered,
    path_held,
    pools_gave,
    spread_of,
    untold,
    wait_s,
)
from autoscaler.state.fallback import with_fallback
from autoscaler.state.modes import effective_mode
from autoscaler.state.transitions import (
    command_sent,
    end_taken,
    hand_back,
    launch_landed,
    not_ended,
    update_launch,
    update_removal,
)

EFFECT_TIMEOUT_S: Final = 7.0
"""Connect and read time-out of one call, with a little to spare: no effect starts with less time left."""
LAUNCH_TIMEOUT_S: Final = 15.0
"""An instant fleet may take EC2 longer than other calls (autoscaler/aws/ec2.py gives it 12 s to answer)."""

PROTECTED_CODE: Final = "OperationNotPermitted"
"""EC2 will not end this instance; most often a person protects it (EC2 API reference, "Error codes")."""
PROTECTION: Final = "disableApiTermination"
"""Stands in EC2's sentence where termination protection is the cause."""
MAX_WORDS: Final = 300
"""Characters of EC2's own words about a pool that are told: an encoded authorization message has thousands."""
LANDED_CODES: Final = frozenset({"IdempotentParameterMismatch", "IdempotentInstanceTerminated"})
"""The token is known to EC2: an earlier copy of the call landed, and its instances carry the operation's tag."""


class Actor:
    """Carries out effects for the holder of the lease, and keeps sentences of what they came to.

    A call that fails is told in `failures` and left to the next look: its operation stays open. The same cause for the
    same operation is news once (`fresh_failure`), and counts as told only when it was.
    """

    def __init__(
        self,
        holder: Holder,
        fleet: Fleet,
        commands: NodeCommands,
        clock: Clock,
        policy: Policy,
        *,
        fallbacks: Sequence[Fallback] = (),
    ) -> None:
        self._holder = holder
        self._fleet = fleet
        self._commands = commands
        self._clock = clock
        self._policy = policy
        self._fallbacks = {fallback.of: fallback for fallback in fallbacks}
        self.done: list[str] = []
        self.failures: list[str] = []
        self.told: list[tuple[str, str]] = []
        """Operation ids with the fresh cause of their failure: to be saved once people have heard of it."""
        self.codes: dict[str, bool] = {}
        """Codes that launches failed with, and whether people have heard of each."""
        self.launched = False
        """Whether a launch gave a worker, or may have."""

    @property
    def fresh_failure(self) -> bool:
        """Whether a failure is new to people."""
        return bool(self.told) or not all(self.codes.values())

    @property
    def in_vain(self) -> bool:
        """Whether launches were sent, none gave anything, and people know why."""
        return bool(self.codes) and not self.launched and not self.fresh_failure

    def perform(self, effects: tuple[Effect, ...], *, under: Mode = Mode.ACTIVE) -> None:
        """Carry out each effect in turn, as far as the time goes. Raises LostLease, StoreUnavailable.

        `under` is the mode that the caller acts in: a teardown pauses the cluster first, and acts while it is paused.
        """
        left = deque(effects)
        while left:
            effect = left.popleft()
            needed_s = LAUNCH_TIMEOUT_S if isinstance(effect, SendLaunch) else EFFECT_TIMEOUT_S
            if self._clock.remaining_s() <= needed_s:
                self.done.append("the time of this invocation is used up; the next look goes on")
                return
            mode = effective_mode(self._holder.state, self._policy, self._clock.now_s())
            if mode is not under:
                # An operator's word came while we acted: a save that met it brought it here.
                self.done.append(
                    f"the mode became {mode.value} meanwhile: what is left waits until it is {under.value}"
                )
                return
            match effect:
                case SendLaunch():
                    self._launch(effect.operation)
                    left.extendleft(self._instead_of(effect.operation))
                case SendCommand():
                    self._command(effect)
                case Terminate():
                    self._terminate(effect)
                case _:
                    assert_never(effect)

    def _launch(self, operation: LaunchOperation) -> None:
        now_s = self._clock.now_s()
        held = path_held(self._holder.state, now_s)
        if held is not None:
            # An earlier launch of this look met it. What was never sent need not stay: a fresh look asks anew.
            if _is_first_copy(operation):
                self._holder.apply(lambda state: update_launch(state, operation.operation_id, lambda _: None))
                self.failures.append(f"launch {operation.operation_id} was not sent ({held.error_code})")
            return
        request = operation.request
        try:
            result = self._fleet.launch(request)
        except FleetUnavailable as error:
            self._launch_failed(operation, error)
            return
        got = len(result.instance_ids)
        if got:
            self.launched = True
            self.done.append(f"EC2 launched {got} of {request.count} workers: {', '.join(result.instance_ids)}")
        if got < request.count:
            words = dict(result.words)
            codes = sorted({code for code, _, _ in result.errors}) or [NO_CODE]
            self._note_codes(codes)
            why = "; ".join(f"{code}: {words[code][:MAX_WORDS]}" if words.get(code) else code for code in codes)
            self.failures.append(f"EC2 gave {got} of {request.count} workers ({why})")
        now_s, missing = self._clock.now_s(), request.count - got
        fallback = self._fallback_of(operation, missing)
        self._holder.apply(
            lambda state: with_fallback(_landed(state, operation, result, now_s, self._policy), fallback, missing)
        )

    def _fallback_of(self, operation: LaunchOperation, missing: int) -> Fallback | None:
        """What may take its place: only of a first copy, whose look counted every worker that is there."""
        fallback = self._fallbacks.get(operation.operation_id) if _is_first_copy(operation) else None
        unpaid = missing - fallback.paid_for(missing) if fallback is not None else 0
        if unpaid:
            no_room = f"cost.max_usd_per_hour has no room for {unpaid} of {missing} workers"
            self.done.append(f"what Spot did not give is not launched on demand: {no_room}")
        return fallback

    def _instead_of(self, operation: LaunchOperation) -> list[SendLaunch]:
        """The launch on demand that was opened when this one on Spot came up short: saved by now, and sent next."""
        fallback = self._fallbacks.pop(operation.operation_id, None)
        if fallback is None:
            return []
        wanted = fallback.operation.operation_id
        opened = [launch for launch in self._holder.state.launches if launch.operation_id == wanted]
        for launch in opened:
            self.done.append(f"what Spot did not give is launched on demand: {launch.request.count} workers")
        return [SendLaunch(operation=launch) for launch in opened]

    def _launch_failed(self, operation: LaunchOperation, error: FleetUnavailable) -> None:
        sentence = f"launch {operation.operation_id}: {error}"
        if error.code in LANDED_CODES:
            self.launched = True
            self._failed(operation, sentence, error)
            self._holder.apply(lambda state: update_launch(state, operation.operation_id, _never_again))
            return
        self._note_codes([error.code])
        self.failures.append(sentence)
        now_s = self._clock.now_s()
        # What was not refused may have landed, or was not looked at: it stays open, and goes out again to the letter.
        closes = error.refused
        fallback = self._fallback_of(operation, operation.request.count) if closes else None
        self._holder.apply(
            lambda state: with_fallback(
                _call_failed(state, operation, error.code, now_s, self._policy, closes=closes),
                fallback,
                operation.request.count,
            )
        )

    def _note_codes(self, codes: Sequence[str]) -> None:
        fresh = untold(self._holder.state, codes)
        for code in codes:
            self.codes[code] = self.codes.get(code, code not in fresh)

    def _command(self, effect: SendCommand) -> None:
        command, operation = effect.command, effect.operation
        what = f"{command.verb.value} of {command.node_name or operation.instance_id}"
        try:
            command_id = self._commands.send(command, effect.server_id)
        except CommandsUnavailable as error:
            self._failed(operation, f"{what}: {error}", error)
            if error.refused and error.code not in THROTTLES:
                # SSM does not hand commands to this server: the next look asks another one.
                self._holder.apply(lambda state: _next_server(state, operation))
            return
        sent = CommandRef(command_id=command_id, server_id=effect.server_id, sent_at_s=self._clock.now_s())
        self._holder.apply(lambda state: command_sent(state, operation.operation_id, operation.phase, sent))
        self.done.append(f"{what} was sent to {effect.server_id}")

    def _terminate(self, effect: Terminate) -> None:
        operation = effect.operation
        try:
            self._fleet.terminate(operation.instance_id)
        except FleetUnavailable as error:
            self._failed(operation, f"terminate of {operation.instance_id}: {error}", error)
            if error.code == PROTECTED_CODE and error.refused and not operation.reclaim:
                self._hand_back(operation, protected=PROTECTION in str(error))
                return
            now_s = self._clock.now_s()
            spread = _spread(operation, now_s)
            waited_s = wait_s(cause_of(error.code), operation.attempts + 1, self._policy, spread=spread)
            self._holder.apply(lambda state: not_ended(state, operation, retry_at_s=now_s + waited_s))
            return
        if operation.told_failure or operation.retry_at_s is not None:
            self._holder.apply(lambda state: end_taken(state, operation.operation_id))
        self.done.append(f"terminate of {operation.instance_id} was sent")

    def _hand_back(self, operation: RemovalOperation, *, protected: bool) -> None:
        """EC2 will not end the worker: it goes on working, and is asked again much later."""
        title = operation.node_name or operation.instance_id
        why = "EC2 protects it from termination" if protected else "EC2 does not permit its termination"
        mend = "switch the protection off, or terminate it yourself" if protected else "EC2's own words say why"
        now_s = self._clock.now_s()
        self._holder.apply(
            lambda state: hand_back(state, operation.operation_id, why, now_s=now_s, policy=self._policy)
        )
        self.done.append(f"{title} is given back: {why}; {mend}")

    def _failed(self, operation: LaunchOperation | RemovalOperation, sentence: str, error: PortError) -> None:
        cause = error.code or "no answer"
        self.failures.append(sentence)
        # An answer that was lost says nothing new of what is known to fail.
        if operation.told_failure != cause and (error.code or not operation.told_failure):
            self.told.append((operation.operation_id, cause))


def _landed(state: State, operation: LaunchOperation, result: LaunchResult, now_s: int, policy: Policy) -> State:
    """EC2 answered. Failed pools are left alone only if the request came up short: else another covered for them."""
    state = launch_landed(state, operation.operation_id, result.instance_ids)
    pools = _pools(operation)
    if len(result.instance_ids) < operation.request.count:
        failed = [
            (pool, code)
            for code, instance_type, zone in result.errors or ((NO_CODE, "", ""),)
            # What EC2 says of no pool, or of nothing at all, it says of each.
            for pool in ([_pool(operation, instance_type, zone)] if instance_type and zone else pools)
        ]
        if all(cause_of(code) is not Cause.BUSY for _, code in failed):
            state = call_answered(state)
        return back_off(state, failed, now_s=now_s, policy=policy, spread=_spread(operation, now_s))
    return call_answered(state) if result.errors else pools_gave(state, pools)


def _call_failed(
    state: State, operation: LaunchOperation, code: str, now_s: int, policy: Policy, *, closes: bool
) -> State:
    """The call itself failed: what is no matter of its pools holds for every launch.

    Of an earlier copy a refusal says nothing: it may have landed, and its instances may not be listed yet, so the
    launch is closed only if there was none.
    """
    if closes:
        first = _is_first_copy(operation)
        state = update_launch(state, operation.operation_id, lambda current: None if first else _never_again(current))
    # What refuses Spot may be no matter of what is on demand: the account's role or quota for it.
    own = {Cause.CAPACITY} if operation.request.market == ON_DEMAND else {*Cause} - {Cause.BUSY}
    places = _pools(operation) if cause_of(code) in own else [LAUNCH_PATH]
    failed = [(place, code) for place in places]
    return back_off(state, failed, now_s=now_s, policy=policy, spread=_spread(operation, now_s))


def _spread(operation: LaunchOperation | RemovalOperation, now_s: int) -> float:
    """Another one at each try, and for each cluster."""
    return spread_of(f"{operation.operation_id} {now_s}")


def _is_first_copy(operation: LaunchOperation) -> bool:
    """Whether nobody can have sent it before: a later look marks what it finds as sent again (`advance_launch`)."""
    return operation.sent_at_s is None or operation.sent_at_s <= operation.created_at_s


def _next_server(state: State, operation: RemovalOperation) -> State:
    """Servers take turns by the number of attempts."""

    def change(current: RemovalOperation) -> RemovalOperation:
        if current.phase is not operation.phase:
            return current
        return msgspec.structs.replace(current, attempts=operation.attempts + 1)

    return update_removal(state, operation.operation_id, change)


def _pools(operation: LaunchOperation) -> list[Pool]:
    keys = dict.fromkeys((o.instance_type, o.zone) for o in operation.request.overrides)
    return [_pool(operation, instance_type, zone) for instance_type, zone in keys]


def _pool(operation: LaunchOperation, instance_type: str, zone: str) -> Pool:
    return Pool(instance_type=instance_type, zone=zone, market=operation.request.market)


def _never_again(operation: LaunchOperation) -> LaunchOperation:
    """It landed, or may have: adopt by tag until everything has settled, send no more."""
    return msgspec.structs.replace(operation, landed=True)
