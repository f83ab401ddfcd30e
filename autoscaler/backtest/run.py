"""Plays plans under policies, as many at once as there are processors; what is played survives an interruption."""

import ctypes
import gc
import multiprocessing
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from contextlib import contextmanager
from multiprocessing.sharedctypes import Synchronized, SynchronizedArray
from typing import Any, Final

import msgspec

from autoscaler.backtest.demand import demand_of, first_workers
from autoscaler.backtest.meter import Meter
from autoscaler.backtest.plan import Plan
from autoscaler.backtest.play import play
from autoscaler.backtest.recording import Recording
from autoscaler.backtest.replay import past_of
from autoscaler.backtest.results import Decided, Figures, Fleet, Report, Span, decided, repeats, together
from autoscaler.backtest.service import Service
from autoscaler.policy import Policy, policy_hash
from autoscaler.simulator.cluster import SimCluster
from autoscaler.simulator.metrics.past import Past

POLL_S: Final = 0.2
BETWEEN_COLLECTIONS: Final = 50_000
"""New objects after which the collector looks: a look makes thousands that need no collector to go."""
Part = tuple[Figures, Span]
"""One plan under one policy."""


class Shared(msgspec.Struct, frozen=True):
    """What the processes have in common."""

    stop: "Synchronized[bool]"
    done_s: "SynchronizedArray[float]"
    """By task: seconds that it has played."""


_shared: list[Shared] = []
"""Of this process, where it is one of the players."""


def play_plan(
    plan: Plan,
    policy: Policy,
    *,
    past: Past | None = None,
    goes_on: Callable[[float], bool] = lambda _: True,
) -> Part:
    """Play one plan; `goes_on` gets the seconds that were played, and ends it with False."""
    counts_from_s = plan.begin_s + plan.lead_s
    decisions: list[Decided] = []
    looks = 0

    def keeper(cluster: SimCluster) -> Service:
        def tell(document: dict[str, Any]) -> None:
            nonlocal looks
            if cluster.now_s < counts_from_s:
                return
            looks += 1
            told = decided(document, cluster.now_s)
            if told is not None and not (decisions and repeats(told, decisions[-1])):
                decisions.append(told)

        return Service(cluster, tell)

    def on_step(cluster: SimCluster) -> bool:
        return goes_on(cluster.now_s - plan.begin_s)

    meter = play(plan, policy, keeper, workers=first_workers(plan, policy), past=past, goes_on=on_step)
    end_s = max(meter.now_s, counts_from_s)
    return _part(meter, counts_from_s, end_s, tuple(decisions), looks)


def _part(meter: Meter, begin_s: float, end_s: float, decisions: tuple[Decided, ...], looks: int) -> Part:
    measured = meter.measured()
    figures = Figures(hours=(end_s - begin_s) / 3600, looks=looks, **msgspec.structs.asdict(measured))
    if end_s == begin_s:  # it was ended within its lead: nothing of it counts
        figures = Figures(hours=0.0, node_hours=0.0, usd=0.0, waiting_pod_minutes=0.0, evictions=0, launches=0, looks=0)
    span = Span(
        begin_s=begin_s,
        end_s=end_s,
        workers=tuple((begin_s + at_s, count) for at_s, count in meter.workers),
        usd_per_hour=tuple((begin_s + at_s, usd) for at_s, usd in meter.usd_per_hour),
        waiting=tuple((begin_s + at_s, count) for at_s, count in meter.waiting),
        decisions=decisions,
    )
    return figures, span


def backtest(
    plans: Sequence[Plan],
    policies: Mapping[str, Policy],
    *,
    source: str,
    notes: tuple[str, ...],
    processes: int,
    recording: Recording | None = None,
    show: Callable[[float], None] = lambda _: None,
) -> Report:
    """Play every plan under every policy. `show` gets the share that is done, some times a second.

    KeyboardInterrupt ends the play and not the call: what was played by then is reported, `stopped` says so.
    """
    tasks = [(name, number) for number in range(len(plans)) for name in policies]
    context = multiprocessing.get_context("spawn")
    shared = Shared(
        stop=context.Value(ctypes.c_bool, False),  # noqa: FBT003 - its first value
        done_s=context.Array(ctypes.c_double, len(tasks)),
    )
    whole_s = sum(plan.length_s for plan in plans) * len(policies)
    parts: dict[tuple[str, int], Part] = {}
    stopped = False
    with ProcessPoolExecutor(processes, context, initializer=_begin, initargs=(shared.stop, shared.done_s)) as pool:
        with _interrupts_ignored():  # inherited: a player that is just starting would die of Ctrl-C
            futures = {
                pool.submit(_play_task, index, plans[number], policies[name], recording): (name, number)
                for index, (name, number) in enumerate(tasks)
            }
        waiting = set(futures)
        while waiting:
            try:
                _, waiting = wait(waiting, timeout=POLL_S, return_when=FIRST_COMPLETED)
                show(sum(shared.done_s[:]) / whole_s)
            except KeyboardInterrupt:
                if stopped:
                    raise
                stopped = True
                shared.stop.value = True
        parts = {task: future.result() for future, task in futures.items()}
    return _report(plans, policies, parts, source=source, notes=notes, stopped=stopped)


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _report(
    plans: Sequence[Plan],
    policies: Mapping[str, Policy],
    parts: Mapping[tuple[str, int], Part],
    *,
    source: str,
    notes: tuple[str, ...],
    stopped: bool,
) -> Report:
    first = next(iter(policies.values()))
    return Report(
        source=source,
        begin_s=plans[0].begin_s + plans[0].lead_s,
        end_s=plans[-1].begin_s + plans[-1].length_s,
        instance_type=first.default_pool.instance_types[0],
        demand=tuple(demand_of(plan, first) for plan in plans),
        fleets=tuple(
            Fleet(
                name=name,
                policy_hash=policy_hash(policy),
                figures=together([parts[name, number][0] for number in range(len(plans))]),
                spans=tuple(
                    span for number in range(len(plans)) if (span := parts[name, number][1]).end_s > span.begin_s
                ),
            )
            for name, policy in policies.items()
        ),
        notes=notes,
        stopped=stopped,
    )


def _begin(stop: "Synchronized[bool]", done_s: "SynchronizedArray[float]") -> None:
    _shared.append(Shared(stop, done_s))
    gc.freeze()
    gc.set_threshold(BETWEEN_COLLECTIONS)


def _play_task(index: int, plan: Plan, policy: Policy, recording: Recording | None) -> Part:
    shared = _shared[-1]

    def goes_on(played_s: float) -> bool:
        shared.done_s[index] = played_s
        return not shared.stop.value

    part = play_plan(plan, policy, past=past_of(recording) if recording is not None else None, goes_on=goes_on)
    if not shared.stop.value:
        shared.done_s[index] = plan.length_s
    return part
