"""From an unschedulable pod on /metrics to the CreateFleet call: `python -m bench.alert_latency --runs 20`.

Real Prometheus and Alertmanager with the shipped policy's intervals and rules, the deployed handlers, EC2 by moto.
Only the sweep is off: what launches is the alert path alone. Each run uses a new pod and begins at a random moment of
the intervals, after the alert of the run before has resolved and Alertmanager's repeat interval has passed, as an alert
that comes out of a quiet hour. The wait of the first run lets the functions start, as Lambda would find them cold once.
The emulator's SSM hands a command over and answers at once: on AWS a question takes some seconds of a look's
`rules.wait_s` more.
"""

import argparse
import json
import random
import sys
import time
from collections.abc import Sequence
from typing import Any, Final

import msgspec
import requests

from autoscaler.simulator.stack.local import LocalStack, StackSettings, local_stack
from autoscaler.simulator.stack.processes import Interrupted, StackError, endings_raise, repository_root
from autoscaler.simulator.stack.story import PENDING_ALERT
from autoscaler.simulator.stack.watch import Watch
from autoscaler.simulator.world.workload import MIB, Ask, PodTemplate, Workload
from bench.figures import median, nearest_rank

LIMIT_S: Final = 20.0
"""What the project promises for the 95th percentile."""
GIVE_UP_S: Final = 90.0
QUIET_S: Final = 20.0
"""Longer than the route's repeat_interval (10 s, rounded up to its group_interval): a repeat is a new notification."""
JITTER_S: Final = 4.0
"""Two of the longest interval on the path, so that every phase of it is met."""
NEVER_S: Final = 3600.0
STATIC_WORKERS: Final = 2

FILLER: Final = Workload(
    namespace="bench",
    name="filler",
    replicas=STATIC_WORKERS,
    template=PodTemplate(request=Ask(cpu_millicores=1500, memory_bytes=200 * MIB), burn_cores=0.5),
)


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One measurement, in seconds after the pod's metric was exposed."""

    webhook_s: float
    create_fleet_s: float
    asked: bool
    """Whether a server was asked what the scheduler asks of the pod."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and fail where the promise is broken; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.alert_latency", description=__doc__)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1, help="of the moments at which runs begin")
    parser.add_argument(
        "--known", action="store_true", help="pods of one owner, whose rules a server has told: else a new owner each"
    )
    parser.add_argument("--json", action="store_true", help="print only JSON on standard output")
    options = parser.parse_args(arguments)
    if options.runs < 1:
        parser.error("--runs must be at least 1")
    try:
        with endings_raise():
            rng = random.Random(options.seed)  # noqa: S311 - no secret
            runs, programs = _measure(options.runs, rng, known=options.known)
    except Interrupted as error:
        _tell(f"The bench was {error}.")
        return 128 + error.number
    except StackError as error:
        _tell(f"The bench could not go on: {error}")
        return 1
    result = _result(runs, programs)
    if not options.json:
        _print_table(runs, result)
    print(json.dumps(result))
    return 0 if result["p95_s"] <= LIMIT_S else 1


def _measure(count: int, rng: random.Random, *, known: bool) -> tuple[list[Run], list[str]]:
    settings = StackSettings(
        policy_path=repository_root() / "policy.yml",
        static_workers=STATIC_WORKERS,
        boot_s=NEVER_S,  # workers are launched and never join: nothing but the call is measured
        lifecycle_events=False,
    )
    with local_stack(settings, tell=_tell) as stack:
        stack.cluster.apply(FILLER)
        time.sleep(QUIET_S)
        runs = []
        if known:
            _tell(f"before the first run: CreateFleet after {_run(stack, 0).create_fleet_s:.1f} s")
            _reset(stack, 0, rng)
        for number in range(1, count + 1):
            runs.append(_run(stack, 0 if known else number))
            _tell(f"run {number} of {count}: CreateFleet after {runs[-1].create_fleet_s:.1f} s")
            if number < count:
                _reset(stack, 0 if known else number, rng)
        return runs, [stack.programs.prometheus.title, stack.programs.alertmanager.title]


def _pod(number: int) -> Workload:
    template = PodTemplate(request=Ask(cpu_millicores=900, memory_bytes=200 * MIB))
    return Workload(namespace="bench", name=f"pod-{number}", replicas=1, template=template)


def _run(stack: LocalStack, number: int) -> Run:
    workload = _pod(number)
    watch = Watch(stack, started_at_s=time.time())
    stack.cluster.apply(workload)
    deadline = time.monotonic() + GIVE_UP_S
    while time.monotonic() < deadline:
        stack.supervisor.check_alive()
        watch.look()
        exposed_at_s = next(
            (pod.unschedulable_since_s for pod in watch.pods_of(workload.key) if pod.unschedulable_since_s), None
        )
        if exposed_at_s is None:
            raise StackError(f"{workload.key} found room on a worker: the bench's filler does not fill.")
        launched_at_s = watch.call("CreateFleet", after_s=exposed_at_s)
        webhook = watch.webhook(PENDING_ALERT, after_s=exposed_at_s)
        if launched_at_s is not None and webhook is not None:
            asked_at_s = watch.call("SendCommand", after_s=exposed_at_s)
            return Run(
                webhook_s=webhook.started_at_s - exposed_at_s,
                create_fleet_s=launched_at_s - exposed_at_s,
                asked=asked_at_s is not None and asked_at_s < launched_at_s,
            )
        time.sleep(0.1)
    last = watch.last_decision
    said = last.document["message"] if last is not None and last.document is not None else "no decision was taken"
    raise StackError(f"Run {number}: no CreateFleet within {GIVE_UP_S:.0f} s; the last decision: {said}")


def _reset(stack: LocalStack, number: int, rng: random.Random) -> None:
    """Back to the beginning: no pod waits, nothing is launched or under way, the alert is forgotten."""
    stack.cluster.delete(_pod(number).key)
    ids = [row["InstanceId"] for row in stack.account.instances() if _is_launched(row)]
    stack.account.client("ec2").terminate_instances(InstanceIds=ids)
    _wait_until_resolved(stack)
    # Only now: a webhook that was still on its way would have written a new state.
    key = {"cluster_id": {"S": stack.settings.cluster_id}, "record": {"S": "STATE"}}
    stack.account.client("dynamodb").delete_item(TableName=stack.state_table, Key=key)
    time.sleep(QUIET_S + rng.uniform(0.0, JITTER_S))


def _is_launched(row: dict[str, Any]) -> bool:
    alive = row["State"]["Name"] in {"pending", "running"}
    return alive and any(tag["Key"] == "ManagedBy" for tag in row.get("Tags", ()))


def _wait_until_resolved(stack: LocalStack) -> None:
    deadline = time.monotonic() + GIVE_UP_S
    query = {"filter": f"alertname={PENDING_ALERT}", "active": "true"}
    while time.monotonic() < deadline:
        answer = requests.get(f"{stack.addresses.alertmanager_url}/api/v2/alerts", params=query, timeout=5)
        if answer.ok and not answer.json():
            return
        time.sleep(0.5)
    raise StackError(f"The alert {PENDING_ALERT} did not resolve within {GIVE_UP_S:.0f} s.")


def _result(runs: Sequence[Run], programs: Sequence[str]) -> dict[str, Any]:
    fleet = [run.create_fleet_s for run in runs]
    return {
        "bench": "alert_latency",
        "programs": list(programs),
        "runs": len(runs),
        "asked_a_server": sum(run.asked for run in runs),
        "median_s": round(median(fleet), 2),
        "p95_s": round(nearest_rank(fleet, 0.95), 2),
        "min_s": round(min(fleet), 2),
        "max_s": round(max(fleet), 2),
        "median_to_webhook_s": round(median([run.webhook_s for run in runs]), 2),
        "limit_p95_s": LIMIT_S,
        "each_s": [round(value, 2) for value in fleet],
    }


def _print_table(runs: Sequence[Run], result: dict[str, Any]) -> None:
    print(f"From an unschedulable pod on /metrics to CreateFleet ({', '.join(result['programs'])}, shipped policy)\n")
    print("run   webhook   CreateFleet   a server was asked")
    for number, run in enumerate(runs, start=1):
        print(f"{number:3d} {run.webhook_s:7.1f} s {run.create_fleet_s:11.1f} s   {'yes' if run.asked else 'no'}")
    verdict = "kept" if result["p95_s"] <= LIMIT_S else "BROKEN"
    print(f"\nmedian {result['median_s']} s, p95 {result['p95_s']} s (promise: at most {LIMIT_S:.0f} s, {verdict})\n")


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
