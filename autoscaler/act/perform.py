"""Carry out effects. Before each: enough time left. After each: its answer is saved."""

from typing import Final, assert_never

import msgspec

from autoscaler.act.effects import Effect, SendCommand, SendLaunch, Terminate
from autoscaler.act.holder import Holder
from autoscaler.model import CommandRef, LaunchOperation, LaunchResult, Mode, Pool, RemovalOperation, State
from autoscaler.policy import Policy
from autoscaler.ports import Clock, CommandsUnavailable, Fleet, FleetUnavailable, NodeCommands, PortError
from autoscaler.state.memory import back_off, pool_gave
from autoscaler.state.modes import effective_mode
from autoscaler.state.transitions import (
    command_sent,
    failure_told,
    hand_back,
    launch_landed,
    update_launch,
    update_removal,
)

EFFECT_TIMEOUT_S: Final = 7.0
"""Connect and read time-out of one call, with a little to spare: no effect starts with less time left."""
LAUNCH_TIMEOUT_S: Final = 15.0
"""An instant fleet may take EC2 longer than other calls (autoscaler/aws/ec2.py gives it 12 s to answer)."""

CAPACITY_CODES: Final = frozenset(
    {
        "InsufficientInstanceCapacity",
        "InsufficientHostCapacity",
        "MaxSpotInstanceCountExceeded",
        "VcpuLimitExceeded",
        "InstanceLimitExceeded",
        "UnfulfillableCapacity",
        "Unsupported",
        "InsufficientFreeAddressesInSubnet",
        "MaxFleetCountExceeded",
        "InsufficientCapacity",
    }
)
"""Worth a back-off of the pool. Source: EC2 API reference, "Error codes"."""
THROTTLE_CODES: Final = frozenset(
    {
        "RequestLimitExceeded",
        "RequestThrottled",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
    }
)
PROTECTED_CODE: Final = "OperationNotPermitted"
"""Termination protection is on (EC2 API reference, "Error codes"): the instance lives, and nothing will end it."""
LANDED_CODES: Final = frozenset({"IdempotentParameterMismatch", "IdempotentInstanceTerminated"})
"""The token is known to EC2: an earlier copy of the call landed, and its instances carry the operation's tag."""


class Actor:
    """Carries out effects for the holder of the lease, and keeps sentences of what they came to.

    A call that fails is told in `failures` and left to the next look: its operation stays open. The same cause for the
    same operation is news once (`fresh_failure`), and counts as told only when it was.
    """

    def __init__(self, holder: Holder, fleet: Fleet, commands: NodeCommands, clock: Clock, policy: Policy) -> None:
        self._holder = holder
        self._fleet = fleet
        self._commands = commands
        self._clock = clock
        self._policy = policy
        self.events: list[str] = []
        self.failures: list[str] = []
        self.short = False
        """Whether EC2 gave fewer workers than were asked for."""
        self.told: list[tuple[str, str]] = []
        """Operation ids with the fresh cause of their failure: to be saved once people have heard of it."""

    @property
    def fresh_failure(self) -> bool:
        """Whether a failure is new to people."""
        return self.short or bool(self.told)

    def perform(self, effects: tuple[Effect, ...], *, under: Mode = Mode.ACTIVE) -> None:
        """Carry out each effect in turn, as far as the time goes. Raises LostLease, StoreUnavailable.

        `under` is the mode that the caller acts in: a teardown pauses the cluster first, and acts while it is paused.
        """
        for effect in effects:
            needed_s = LAUNCH_TIMEOUT_S if isinstance(effect, SendLaunch) else EFFECT_TIMEOUT_S
            if self._clock.remaining_s() <= needed_s:
                self.events.append("the time of this invocation is used up; the next look goes on")
                return
            mode = effective_mode(self._holder.state, self._policy, self._clock.now_s())
            if mode is not under:
                # An operator's word came while we acted: a save that met it brought it here.
                self.events.append(
                    f"the mode became {mode.value} meanwhile: what is left waits until it is {under.value}"
                )
                return
            match effect:
                case SendLaunch():
                    self._launch(effect.operation)
                case SendCommand():
                    self._command(effect)
                case Terminate():
                    self._terminate(effect)
                case _:
                    assert_never(effect)

    def _launch(self, operation: LaunchOperation) -> None:
        request = operation.request
        try:
            result = self._fleet.launch(request)
        except FleetUnavailable as error:
            self._launch_failed(operation, error)
            return
        now_s = self._clock.now_s()
        self._holder.apply(lambda state: _landed(state, operation, result, now_s, self._policy))
        got = len(result.instance_ids)
        ids = ", ".join(result.instance_ids) or "none"
        self.events.append(f"EC2 launched {got} of {request.count} workers: {ids}")
        if got < request.count:
            codes = ", ".join(sorted({code for code, _, _ in result.errors})) or "no reason given"
            self.failures.append(f"EC2 gave {got} of {request.count} workers ({codes})")
            self.short = True

    def _launch_failed(self, operation: LaunchOperation, error: FleetUnavailable) -> None:
        self._failed(operation, f"launch {operation.operation_id}: {error}", error)
        if error.code in LANDED_CODES:
            self._holder.apply(lambda state: update_launch(state, operation.operation_id, _never_again))
        elif not error.effect_unknown and error.refused and error.code not in THROTTLE_CODES:
            now_s = self._clock.now_s()
            self._holder.apply(lambda state: _refused(state, operation, error.code, now_s, self._policy))
        # Else it may have landed, or was not looked at: the identical request goes out again.

    def _command(self, effect: SendCommand) -> None:
        command, operation = effect.command, effect.operation
        what = f"{command.verb.value} of {command.node_name or operation.instance_id}"
        try:
            command_id = self._commands.send(command, effect.server_id)
        except CommandsUnavailable as error:
            self._failed(operation, f"{what}: {error}", error)
            if error.refused and error.code not in THROTTLE_CODES:
                # SSM does not hand commands to this server: the next look asks another one.
                self._holder.apply(lambda state: _next_server(state, operation))
            return
        sent = CommandRef(command_id=command_id, server_id=effect.server_id, sent_at_s=self._clock.now_s())
        self._holder.apply(lambda state: command_sent(state, operation.operation_id, operation.phase, sent))
        self.events.append(f"{what} was sent to {effect.server_id}")

    def _terminate(self, effect: Terminate) -> None:
        operation = effect.operation
        try:
            self._fleet.terminate(operation.instance_id)
        except FleetUnavailable as error:
            self._failed(operation, f"terminate of {operation.instance_id}: {error}", error)
            if error.code == PROTECTED_CODE and error.refused and not operation.reclaim:
                self._hand_back(operation)
            return
        if operation.told_failure:
            self._holder.apply(lambda state: failure_told(state, operation.operation_id, ""))
        self.events.append(f"terminate of {operation.instance_id} was sent")

    def _hand_back(self, operation: RemovalOperation) -> None:
        """EC2 protects the worker: it goes on working, and is asked again much later."""
        title = operation.node_name or operation.instance_id
        why = "EC2 protects it from termination"
        now_s = self._clock.now_s()
        self._holder.apply(
            lambda state: hand_back(state, operation.operation_id, why, now_s=now_s, policy=self._policy)
        )
        self.events.append(f"{title} is given back: {why}; switch the protection off, or terminate it yourself")

    def _failed(self, operation: LaunchOperation | RemovalOperation, sentence: str, error: PortError) -> None:
        cause = error.code or "no answer"
        self.failures.append(sentence)
        if operation.told_failure != cause:
            self.told.append((operation.operation_id, cause))


def _landed(state: State, operation: LaunchOperation, result: LaunchResult, now_s: int, policy: Policy) -> State:
    """EC2 answered. Failed pools are left alone only if the request came up short: else another covered for them."""
    state = launch_landed(state, operation.operation_id, result.instance_ids)
    if len(result.instance_ids) < operation.request.count:
        for code, instance_type, zone in result.errors:
            if code in CAPACITY_CODES:
                pool = Pool(instance_type=instance_type, zone=zone)
                state = back_off(state, pool, code, now_s=now_s, policy=policy)
        return state
    if not result.errors:
        for pool in _pools(operation):
            state = pool_gave(state, pool)
    return state


def _refused(state: State, operation: LaunchOperation, code: str, now_s: int, policy: Policy) -> State:
    """EC2 said no, and its pools are left alone for a while.

    Of an earlier copy that says nothing: it may have landed, and its instances may not be listed yet, so the launch is
    closed only if there was none.
    """
    first = operation.sent_at_s is None or operation.sent_at_s <= operation.created_at_s
    state = update_launch(state, operation.operation_id, lambda current: None if first else _never_again(current))
    for pool in _pools(operation):
        state = back_off(state, pool, code, now_s=now_s, policy=policy)
    return state


def _next_server(state: State, operation: RemovalOperation) -> State:
    """Servers take turns by the number of attempts."""

    def change(current: RemovalOperation) -> RemovalOperation:
        if current.phase is not operation.phase:
            return current
        return msgspec.structs.replace(current, attempts=operation.attempts + 1)

    return update_removal(state, operation.operation_id, change)


def _pools(operation: LaunchOperation) -> list[Pool]:
    keys = dict.fromkeys((o.instance_type, o.zone) for o in operation.request.overrides)
    return [Pool(instance_type=instance_type, zone=zone) for instance_type, zone in keys]


def _never_again(operation: LaunchOperation) -> LaunchOperation:
    """It landed, or may have: adopt by tag until everything has settled, send no more."""
    return msgspec.structs.replace(operation, landed=True)
