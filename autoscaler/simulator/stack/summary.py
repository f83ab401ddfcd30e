"""What the demo reports at its end: when what happened, what it moved, what it cost."""

import msgspec

from autoscaler.simulator.ec2 import listed_usd
from autoscaler.simulator.stack.local import LocalStack
from autoscaler.simulator.stack.story import STEPS, Story
from autoscaler.simulator.stack.watch import Watch


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """One step of the story."""

    key: str
    title: str
    at_s: float
    """Epoch seconds."""


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the demo reports; `--json` prints it."""

    ok: bool
    failure: str
    """Why it is not ok, in a sentence."""
    prometheus: str
    alertmanager: str
    """Names and versions of the real programs."""
    started_at_s: float
    """When the stack was up and the story began, in epoch seconds."""
    took_s: float
    """All of it, from the command on."""
    moments: tuple[Moment, ...]
    pending_to_webhook_s: float | None
    pending_to_create_fleet_s: float | None
    pending_to_ready_s: float | None
    pending_to_running_s: float | None
    load_gone_to_drain_s: float | None
    load_gone_to_terminated_s: float | None
    load_gone_to_node_deleted_s: float | None
    webhooks: int
    sweeps: int
    events: int
    """Invocations of the lifecycle function."""
    launched_instances: int
    fleet_requests: int
    drains: int
    """Drains that ended well."""
    evicted_pods: int
    worker_seconds: float
    """Of the workers that the service launched, up to the end of the demo."""
    dollars: float
    """Those seconds at us-east-1's on-demand prices."""


def summarise(stack: LocalStack, watch: Watch, story: Story, *, took_s: float, failure: str) -> Summary:
    """Count and measure."""
    times = story.times
    drained = [result for _, result in story.drains if result.outcome == "succeeded"]
    worker_seconds, dollars = _cost(watch)

    def between(first: str, second: str) -> float | None:
        return times[second] - times[first] if first in times and second in times else None

    return Summary(
        ok=not failure,
        failure=failure,
        prometheus=stack.programs.prometheus.title,
        alertmanager=stack.programs.alertmanager.title,
        started_at_s=watch.started_at_s,
        took_s=took_s,
        moments=tuple(
            Moment(key=step.key, title=step.title, at_s=times[step.key]) for step in STEPS if step.key in times
        ),
        pending_to_webhook_s=between("pending", "webhook"),
        pending_to_create_fleet_s=between("pending", "create_fleet"),
        pending_to_ready_s=between("pending", "nodes_ready"),
        pending_to_running_s=between("pending", "pods_run"),
        load_gone_to_drain_s=between("load_gone", "drain"),
        load_gone_to_terminated_s=between("load_gone", "terminated"),
        load_gone_to_node_deleted_s=between("load_gone", "node_deleted"),
        webhooks=sum(1 for one in watch.invocations if one.key == "alerts"),
        sweeps=sum(1 for one in watch.invocations if one.key == "sweep"),
        events=sum(1 for one in watch.invocations if one.key == "lifecycle"),
        launched_instances=len(watch.managed_instances),
        fleet_requests=sum(1 for call in watch.calls if call.operation == "CreateFleet"),
        drains=len(drained),
        evicted_pods=sum(result.evicted_pods for result in drained),
        worker_seconds=worker_seconds,
        dollars=dollars,
    )


def _cost(watch: Watch) -> tuple[float, float]:
    seconds, dollars = 0.0, 0.0
    for row in watch.managed_instances:
        lived_s = max(0.0, watch.ended_at_s.get(row["instance_id"], watch.state.now_s) - row["launched_at_s"])
        seconds += lived_s
        dollars += lived_s / 3600 * listed_usd(row["instance_type"])
    return seconds, dollars
