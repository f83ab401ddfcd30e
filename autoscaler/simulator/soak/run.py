"""One seed, from its first minute to the proof that the fleet reached its demand."""

import heapq
import itertools
import random
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Final

import msgspec

from autoscaler.model import Notice, OfferedPolicy, Trigger
from autoscaler.reconcile import reconcile
from autoscaler.simulator.instances import SimInstance
from autoscaler.simulator.soak.assumptions import (
    CLOCKS_DIFFER_S,
    INVOCATION_S,
    PROGRESS_SWEEPS,
    REST_SWEEPS,
    SWEEP_EVERY_S,
    VISIBLE_WITHIN_S,
)
from autoscaler.simulator.soak.beside import OWNERS as BESIDE
from autoscaler.simulator.soak.beside import run_beside
from autoscaler.simulator.soak.chaos import KINDS, mend_everything, plan, plan_for_rules
from autoscaler.simulator.soak.clockwork import with_change_of_clocks, with_schedules
from autoscaler.simulator.soak.demand import may_rest, not_at_rest, not_yet
from autoscaler.simulator.soak.fates import FateRates, Fates, dice
from autoscaler.simulator.soak.faults.drift import plan_drift
from autoscaler.simulator.soak.faults.stage import Episode, Stage
from autoscaler.simulator.soak.identity import RecordedIds
from autoscaler.simulator.soak.invariants import rules
from autoscaler.simulator.soak.leaving import with_choices
from autoscaler.simulator.soak.live import Offer, plan_offers
from autoscaler.simulator.soak.market import plan_for_market, with_market
from autoscaler.simulator.soak.own_numbers import give_numbers, with_own_numbers
from autoscaler.simulator.soak.pools import with_pools
from autoscaler.simulator.soak.process import Process
from autoscaler.simulator.soak.setting import (
    Change,
    make_cluster,
    make_policy,
    make_rates,
    make_workloads,
    plan_changes,
)
from autoscaler.simulator.soak.stepped import SteppedInvocation
from autoscaler.simulator.soak.violation import Violation
from autoscaler.simulator.soak.watch import Watch

HOURS: Final = 3.0
"""Of faults, in each seed."""
POLL_S: Final = 5.0
"""How often the outside (Alertmanager, EventBridge) looks for something to tell."""
ALERT_AFTER_S: Final = 10.0
ALERT_EVERY_S: Final = 60.0
CALM_S: Final = 300.0
"""Before the first fault."""
POLICY: Final = "policy"
"""The trigger that Parameter Store gives: an event as those of EC2 are."""
QUIET: Final = FateRates()
REST_EVERY: Final = 3
"""One seed in so many also shows that the fleet goes down again."""


@dataclass(frozen=True, slots=True)
class SeedResult:
    """What one seed came to."""

    seed: int
    violation: Violation | None
    hours: float
    steps: int
    invocations: int
    injected: Counter[str]
    crash_points: Counter[tuple[str, str, str]]
    checks: Counter[str]
    sweeps_to_demand: int
    sweeps_to_rest: int
    faults: tuple[str, ...]
    """Keys of all that was injected: leaving some out gives a shorter history."""
    lines: tuple[str, ...]

    def without_history(self) -> "SeedResult":
        """The sums only: small enough to be handed from process to process."""
        return replace(self, lines=(), faults=())


class Run:
    """The scheduler: virtual time, the agenda of steps, and everything outside that wakes the function."""

    def __init__(
        self, seed: int, *, hours: float = HOURS, left_out: Collection[str] = (), only: Collection[str] = ()
    ) -> None:
        rng = random.Random(seed)
        self.seed = seed
        with_windows, now_s = with_change_of_clocks(with_schedules(make_policy(rng, seed), seed), seed)
        self.policy = with_own_numbers(with_pools(with_market(with_choices(with_windows, seed), seed), seed), seed)
        self.cluster = make_cluster(rng, self.policy, seed, now_s=now_s)
        self.watch = Watch(self.cluster, rules())
        self.began_s = self.cluster.now_s
        self.end_s = self.began_s + CALM_S + hours * 3600.0
        give_numbers(self.cluster, seed, begins_s=self.began_s, quiet_s=self.end_s)
        self.fates = Fates(seed, make_rates(rng), left_out)
        for workload in make_workloads(rng, seed=seed):
            self.cluster.apply(workload)
        self.changes = plan_changes(rng, begin_s=self.began_s, end_s=self.end_s)
        begin_s = self.began_s + CALM_S
        self.episodes = plan(rng, begin_s=begin_s, end_s=self.end_s, only=only)
        self.episodes += plan_for_rules(seed, first=len(self.episodes), begin_s=begin_s, end_s=self.end_s, only=only)
        self.episodes += plan_for_market(
            self.policy, seed, first=len(self.episodes), begin_s=begin_s, end_s=self.end_s, only=only
        )
        if not only:
            count = len(self.episodes)
            self.episodes += plan_drift(self.policy, seed, first=count, begin_s=begin_s, end_s=self.end_s)
        first = len(self.changes)
        self.changes += run_beside(self.cluster, seed, first=first, begin_s=begin_s, end_s=self.end_s)
        self.clumsy_triggers = rng.choice((0.0, 0.1, 0.4))
        self.offers = plan_offers(self.policy, seed, begin_s=begin_s, end_s=self.end_s)
        self.lag_s = rng.choice((0.0, 5.0, 20.0, VISIBLE_WITHIN_S))
        self.left_out = left_out
        if rng.random() < 1 / 6:
            self.lag_s = 0.0
            self.fates.prompt_launches = True
            self.cluster.ec2.settings = msgspec.structs.replace(self.cluster.ec2.settings, replays_tokens=False)
        self.watch.listed_within_s = self.lag_s
        self.stage = Stage(self.cluster, self.watch, self.fates, self.later, self._bring_notice)
        self.chaos = True
        self.invocations = 0
        self.sweeps_to_demand = 0
        self.sweeps_to_rest = 0
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._numbers: Counter[str] = Counter()
        self._alive: list[SteppedInvocation] = []
        self._ended: set[str] = set()
        self._commands_seen: set[str] = set()
        self._next_alert_s = 0.0
        self._rows = itertools.count()
        self.cluster.ec2.lag_s = self._lag

    # ------------------------------------------------------------------------------------------------------------ time

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        """Put an action on the agenda."""
        heapq.heappush(self._agenda, (self.cluster.now_s + seconds, next(self._order), action))

    def run(self) -> SeedResult:
        """Play the seed."""
        for episode in self.episodes:
            if episode.key not in self.left_out:
                self._plan_episode(episode)
        for change in self.changes:
            if change.key not in self.left_out:
                self.later(change.at_s - self.cluster.now_s, lambda change=change: self._apply(change))  # type: ignore[misc]
        for offer in self.offers:
            if offer.key not in self.left_out:
                self.later(offer.at_s - self.cluster.now_s, lambda offer=offer: self._offer(offer))  # type: ignore[misc]
        self.later(POLL_S, self._poll)
        self.later(SWEEP_EVERY_S, self._sweep)
        self._play(self.end_s)
        if self.watch.violation is None:
            self._stop_faults()
            self._play_until_demand()
            if self.seed % REST_EVERY == 0 and may_rest(self.watch):
                self._play_until_rest()
        for invocation in self._alive:
            invocation.process.kill()
        return self._result()

    def _play(self, until_s: float) -> None:
        time = self.cluster.time
        while self._agenda and self._agenda[0][0] <= until_s and self.watch.violation is None:
            at_s, _, action = heapq.heappop(self._agenda)
            time.now_s = max(time.now_s, at_s)
            self.cluster.world.advance(time.now_s)
            action()
            self.watch.stepped()

    def _play_until_demand(self) -> None:
        missing = ["nothing was looked at"]
        for sweep in range(1, PROGRESS_SWEEPS + 1):
            self._play(self.cluster.now_s + SWEEP_EVERY_S)
            if self.watch.violation is not None:
                return
            missing = not_yet(self.watch)
            if not missing:
                self.sweeps_to_demand = sweep
                break
        told = f"after {PROGRESS_SWEEPS} quiet sweeps: {'; '.join(missing[:4])}"
        self.watch.check("demand_is_reached", told if missing else None)

    def _play_until_rest(self) -> None:
        """Nothing is asked for any more: the fleet goes down to its floor."""
        for owner in ("shop/web", "shop/cart", *BESIDE):
            if owner in self.cluster.world.state.workloads:
                self.cluster.world.scale(owner, 0)
        self.watch.tell("nothing runs any more")
        missing: list[str] = []
        for sweep in range(1, REST_SWEEPS + 1):
            self._play(self.cluster.now_s + SWEEP_EVERY_S)
            missing = not_at_rest(self.watch)
            if not missing:
                self.sweeps_to_rest = sweep
                break
        told = f"after {REST_SWEEPS} sweeps without load: {'; '.join(missing[:4])}"
        self.watch.check("rest_is_reached", told if missing else None)

    def _stop_faults(self) -> None:
        self.watch.tell("every fault ends")
        self.chaos = False
        self.fates.rates = QUIET
        self.fates.outages.clear()
        self.clumsy_triggers = 0.0
        self.lag_s = 0.0
        mend_everything(self.stage)
        if not self.watch.parameter.is_seen(self.watch.state.policy_override):
            self.watch.tell("operator: policy apply")
            self._trigger(POLICY, ())

    # ---------------------------------------------------------------------------------------------------------- faults

    def _plan_episode(self, episode: Episode) -> None:
        begin, end = KINDS[episode.kind]

        def start() -> None:
            if not self.chaos:
                return
            self.watch.injected[episode.kind] += 1
            self.watch.fault_keys.append(episode.key)
            self.watch.tell(f"{episode.key} for {episode.for_s:.0f} s")
            begin(self.stage, episode)
            self.later(episode.for_s, lambda: end(self.stage, episode))

        self.later(episode.at_s - self.cluster.now_s, start)

    def _apply(self, change: Change) -> None:
        world = self.cluster.world
        self.watch.fault_keys.append(change.key)
        self.watch.tell(f"{change.key}: {change.owner} replicas {change.replicas}, burns {change.burn_cores}")
        if change.replicas is not None:
            world.scale(change.owner, change.replicas)
        if change.burn_cores is not None:
            world.burn(change.owner, change.burn_cores)

    def _offer(self, offer: Offer) -> None:
        """The parameter of the policy's live changes is written, and Parameter Store tells EventBridge."""
        self.watch.fault_keys.append(offer.key)
        self.watch.injected["policy changed live" if offer.policy is not None else "policy changed, not valid"] += 1
        self.watch.parameter.write(offer, self.cluster.now_s)
        self.watch.tell(f"{offer.key}: {offer.text!r}")
        self._trigger(POLICY, ())

    def _read_parameter(self, invocation: SteppedInvocation) -> OfferedPolicy:
        """As the function does it: the answer is what stood there, and somebody may write while it travels."""
        offered = invocation.seen.offered = self.watch.parameter.read()
        pick = dice(f"{self.seed}/parameter/{invocation.process.name}")[0]
        invocation.process.pause(0.05 if pick < 0.7 or not self.chaos else 20.0 * (pick - 0.7) / 0.3)
        return offered

    def _lag(self, instance: SimInstance) -> float:
        if self.lag_s == 0.0 or instance.launched_at_s < self.began_s - 60:
            return 0.0
        return self.lag_s * dice(f"{self.seed}/row/{next(self._rows)}")[0]

    # -------------------------------------------------------------------------------------------------------- triggers

    def _sweep(self) -> None:
        self.later(SWEEP_EVERY_S, self._sweep)
        self._trigger("sweep", ())

    def _poll(self) -> None:
        self.later(POLL_S, self._poll)
        now_s = self.cluster.now_s
        waiting = [
            pod.unschedulable_since_s
            for pod in self.cluster.world.state.unbound.values()
            if pod.unschedulable_since_s is not None
            and pod.waits
            and now_s - pod.unschedulable_since_s >= ALERT_AFTER_S
        ]
        if waiting and now_s >= self._next_alert_s:
            self._next_alert_s = now_s + ALERT_EVERY_S
            subject = f"pods-pending@{int(min(waiting))}"
            self._trigger("alert", (Notice(kind="blind_alert", subject=subject, received_at_s=int(now_s)),))
        for instance in list(self.cluster.ec2.instances.values()):
            if instance.ended_at_s is not None and instance.instance_id not in self._ended:
                self._ended.add(instance.instance_id)
                self._trigger("lifecycle", ())
        for command_id in list(self.cluster.ssm.sent.keys() - self._commands_seen):
            status = self.cluster.world.command_status(command_id)
            if status is not None and status.stdout:
                self._commands_seen.add(command_id)
                self._trigger("lifecycle", ())

    def _bring_notice(self, facts: tuple[Notice, ...]) -> None:
        self._trigger("lifecycle", facts)

    def _trigger(self, kind: str, facts: tuple[Notice, ...]) -> None:
        """A trigger comes once and at once, or late, twice, or never (a notice is delivered at least once)."""
        self._numbers[kind] += 1
        name = f"{kind} {self._numbers[kind]}"
        clumsy, delay, copies, _ = dice(f"{self.seed}/trigger/{name}")
        if clumsy >= self.clumsy_triggers or f"trigger {name}" in self.left_out:
            self._start(name, kind, facts)
            return
        self.watch.fault_keys.append(f"trigger {name}")
        if copies < 0.25 and not facts and kind != POLICY:
            self.watch.injected["trigger lost"] += 1
            return
        self.watch.injected["trigger late"] += 1
        self.later(delay**3 * 90.0, lambda: self._start(name, kind, facts))
        if copies > 0.6:
            self.watch.injected["trigger doubled"] += 1
            self.later(delay**2 * 5.0, lambda: self._start(f"{name} again", kind, facts))

    def _start(self, name: str, kind: str, facts: tuple[Notice, ...], attempt: int = 0) -> None:
        skew_s = (dice(f"{self.seed}/skew/{name}")[0] - 0.5) * CLOCKS_DIFFER_S if self.chaos else 0.0
        process = Process(name, lambda _process: self._body(invocation, kind, facts))
        invocation = SteppedInvocation(
            self.cluster.wires,
            process,
            lambda number, service, call: self.fates.draw(name, number, service, call),
            self.watch,
            self.later,
            skew_s=skew_s,
        )
        invocation.seen.alerted = kind == "alert"
        self.invocations += 1
        self.watch.tell(f"{name} begins")
        self._alive.append(invocation)
        self.later(INVOCATION_S, lambda: self._time_out(invocation))
        self._step(invocation, kind, facts, attempt)

    def _body(self, invocation: SteppedInvocation, kind: str, facts: tuple[Notice, ...]) -> object:
        ports = self.cluster.ports(invocation=invocation)
        ports = msgspec.structs.replace(ports, ids=RecordedIds(self.cluster.ids, invocation.seen.ids))
        return reconcile(
            ports,
            cluster_id=self.cluster.cluster_id,
            policy=self.policy,
            trigger=Trigger(kind="lifecycle" if kind == POLICY else kind),
            facts=facts,
            offered=(lambda: self._read_parameter(invocation)) if kind == POLICY else None,
        )

    def _step(self, invocation: SteppedInvocation, kind: str, facts: tuple[Notice, ...], attempt: int) -> None:
        process = invocation.process
        if not process.alive:
            return
        wish_s = process.resume()
        if wish_s is not None:
            self.later(wish_s, lambda: self._step(invocation, kind, facts, attempt))
            return
        self._alive.remove(invocation)
        if process.ended:
            self.watch.tell(f"{process.name} ends: {_outcome(process)}")
            self.watch.ended(invocation)
        failed = process.killed or process.error is not None
        if failed and attempt < 2:
            # Alertmanager asks again within seconds, EventBridge after a minute; what died is not heard of for longer.
            wait_s = (3.0 if kind == "alert" else 60.0) + (INVOCATION_S if process.killed else 0.0)
            retry = f"{process.name} retry"
            self.later(wait_s, lambda: self._start(retry, kind, facts, attempt + 1))

    def _time_out(self, invocation: SteppedInvocation) -> None:
        frozen_s = invocation.frozen_until_s - self.cluster.now_s
        if invocation.process.alive and frozen_s >= 0:
            self.later(frozen_s + 10.0, lambda: self._time_out(invocation))
        elif invocation.process.alive:
            invocation.process.kill()
            self._alive.remove(invocation)
            self.watch.injected["Lambda time-out"] += 1
            self.watch.tell(f"{invocation.process.name} is over its time, and killed")

    # ---------------------------------------------------------------------------------------------------------- result

    def _result(self) -> SeedResult:
        watch = self.watch
        return SeedResult(
            seed=self.seed,
            violation=watch.violation,
            hours=(self.cluster.now_s - self.began_s) / 3600.0,
            steps=watch.steps,
            invocations=self.invocations,
            injected=watch.injected,
            crash_points=watch.crash_points,
            checks=watch.checks,
            sweeps_to_demand=self.sweeps_to_demand,
            sweeps_to_rest=self.sweeps_to_rest,
            faults=tuple(watch.fault_keys),
            lines=tuple(f"{at_s - self.began_s:9.3f}  {line}" for at_s, line in watch.lines),
        )


def _outcome(process: Process) -> str:
    if process.error is not None:
        return f"{type(process.error).__name__}: {process.error}"
    if isinstance(process.result, dict):
        return f"{process.result['action']} {process.result['reason']}: {process.result['message']}"
    return repr(process.result)
