"""What the three functions write in many situations: real handlers, the real core, a simulated cluster behind it.

The lines that Lambda itself adds to a function's log are made up, in the form that the Lambda Developer Guide shows.
"""

import contextlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from autoscaler.aws.calls import Calls
from autoscaler.aws.clients import Clients
from autoscaler.aws.clock import Context
from autoscaler.model import CLUSTER_TAG, Lease, Mode, ModeSetting, OfferedPolicy
from autoscaler.policy import Cost, Policy, Rotation, Workers
from autoscaler.runtime import App
from autoscaler.simulator.cluster import START_S, SimCluster
from autoscaler.simulator.world.workload import Budget
from autoscaler.telemetry import Telemetry
from handlers import alerts, lifecycle, sweep
from tests.handlers.support import SETTINGS, FakeContext, accept_test_token, post, sample
from tests.service.insights_run import Line
from tests.simulator.worlds import bare, database, deployment

CLUSTER: Final = "demo"
DAY_S: Final = 86_400.0


@dataclass
class Log:
    """Every line that was written, in the order of virtual time within a situation."""

    prefix: str
    lines: list[Line] = field(default_factory=list)

    def add(self, function: str, at_s: float, text: str) -> None:
        """Keep the lines of one invocation."""
        group = f"/aws/lambda/{self.prefix}-{function}"
        self.lines += [Line(group, int(at_s * 1000), line) for line in text.splitlines()]


class Stage:
    """One cluster and the functions that look after it."""

    def __init__(self, log: Log, policy: Policy | None = None, *, day: int = 0, **cluster: Any) -> None:
        self.log = log
        policy = policy if policy is not None else Policy(version=1)
        self.cluster = SimCluster(policy, cluster_id=CLUSTER, now_s=START_S + day * DAY_S, **cluster)
        self.cluster.wires.latency_s = {"prometheus": 0.04, "ec2": 0.09, "dynamodb": 0.01, "ssm": 0.05, "sns": 0.03}
        self.offered = OfferedPolicy(text=None)
        self._text = io.StringIO()
        self._telemetry = Telemetry(cluster_id=CLUSTER, stream=self._text)
        self._answers: dict[str, dict[str, Any]] = {}
        self._count = 0

    def sweep(self, times: int = 1, *, every_s: float = 120.0) -> None:
        """Scheduled looks; one that raises is what Lambda would log and count."""
        for _ in range(times):
            self.cluster.run(every_s)
            self._invoke("sweep", lambda context: sweep.handle(self._app(), {"id": "event-1"}, context))

    def webhook(self, event: dict[str, Any]) -> int:
        """One request to the webhook; returns the status of its answer."""
        now_s = int(self.cluster.now_s)
        answer = self._invoke(
            "alerts", lambda context: alerts.handle(self._app(), self._once, event, context, now_s=now_s)
        )
        return int(answer["statusCode"])

    def event(self, kind: str, **detail: str) -> None:
        """One event of EC2 or SSM."""
        named = {name.replace("_", "-"): value for name, value in detail.items()}
        event = {"id": "event-2", "detail-type": kind, "detail": named}
        now_s = int(self.cluster.now_s)
        self._invoke("lifecycle", lambda context: lifecycle.handle(self._app(), event, context, now_s=now_s))

    def burst(self, replicas: int = 8, **pod: Any) -> None:
        """Pods of 0.9 CPU: two fit on a worker."""
        self.cluster.apply(deployment("web", replicas=replicas, **{"cpu": 900, **pod}))
        self.cluster.run(15)

    def state(self, **changes: Any) -> None:
        """Change the stored state, as another invocation or the command line would."""
        store = self.cluster.ports().store
        state, version = store.load()
        store.save(msgspec.structs.replace(state, **changes), version)

    def _invoke(self, function: str, handle: Callable[[Context], dict[str, Any]]) -> dict[str, Any]:
        self._count += 1
        request_id = f"{self._count:08d}-0000-4000-8000-000000000000"
        context = FakeContext(request_id, function_name=function)
        began_s = self.cluster.now_s
        answer: dict[str, Any] = {}
        with contextlib.suppress(Exception):  # it was logged, which is what is looked at
            answer = handle(context)
        took_ms = (self.cluster.now_s - began_s) * 1000 + 1.25
        self.log.add(function, self.cluster.now_s, self._text.getvalue())
        self._text.seek(0)
        self._text.truncate()
        init = "Init Duration: 512.40 ms\t" if self._count == 1 else ""
        report = (
            f"REPORT RequestId: {request_id}\tDuration: {took_ms:.2f} ms\tBilled Duration: {int(took_ms) + 1} ms\t"
            f"Memory Size: 512 MB\tMax Memory Used: 98 MB\t{init}"
        )
        self.log.add(function, self.cluster.now_s, f"START RequestId: {request_id} Version: $LATEST\n{report}")
        return answer

    def _app(self) -> App:
        return App(
            settings=SETTINGS,
            policy=self.cluster.policy,
            telemetry=self._telemetry,
            ports=lambda _: self.cluster.ports(),
            ours_among=self._ours_among,
            accept_token=accept_test_token,
            clients=Clients(Calls(), region="eu-central-1"),
            offered_policy=lambda: self.offered,
            begin=lambda: None,
        )

    def _ours_among(self, instance_ids: Sequence[str]) -> frozenset[str]:
        machines = self.cluster.ec2.instances
        return frozenset(i for i in instance_ids if i in machines and machines[i].tags.get(CLUSTER_TAG) == CLUSTER)

    def _once(self, key: str, context: Context, work: Callable[[], dict[str, Any]]) -> tuple[dict[str, Any], bool]:
        """Remembers answers for ever, which is long enough for a repeat."""
        del context
        if key in self._answers:
            return self._answers[key], True
        self._answers[key] = work()
        return self._answers[key], False


def _grows_and_shrinks(log: Log) -> None:
    stage = Stage(log)
    stage.sweep(2)
    stage.burst()
    firing = post(sample("firing"))
    assert stage.webhook(firing) == 200
    assert stage.webhook(firing) == 200  # a repeat
    stage.sweep(3)
    stage.cluster.world.scale("shop/web", 1)
    stage.cluster.run(1500)
    stage.sweep(12)
    stage.event("EC2 Command Status-change Notification", document_name="our-document", status="Success")


def _reaches_the_maximum(log: Log) -> None:
    stage = Stage(log, Policy(version=1, workers=Workers(max=3), cost=Cost(baseline_workers=5)), day=1)
    stage.burst(20)
    stage.sweep(5)


def _workers_never_join(log: Log) -> None:
    stage = Stage(log, day=2)
    stage.cluster.world.faults.never_join = True
    stage.burst()
    stage.sweep(30)


def _metrics_fail(log: Log) -> None:
    stage = Stage(log, day=3)
    stage.cluster.metric_faults.down = True
    stage.sweep(9)
    stage.cluster.metric_faults.down = False
    stage.cluster.metric_faults.restarted = True
    stage.sweep(2)


def _webhooks_are_turned_away(log: Log) -> None:
    stage = Stage(log, day=4)
    firing = sample("firing")
    watchdog = firing | {"alerts": [firing["alerts"][0] | {"labels": {"alertname": "Watchdog", "scale": "none"}}]}
    said = [
        stage.webhook(event)
        for event in (post(firing, token=None), post(firing, token="wrong"), post("hello"), post("x" * 300_000))
    ]
    assert said == [401, 401, 400, 413]
    assert stage.webhook(post(watchdog)) == 200
    stage.burst()
    stage.state(lease=Lease(owner="another", expires_at_s=int(stage.cluster.now_s) + 30))
    assert stage.webhook(post(firing)) == 503
    stage.cluster.fail("dynamodb", "load")
    assert stage.webhook(post(firing)) == 503


def _machines_come_and_go(log: Log) -> None:
    stage = Stage(log, day=5)
    worker = stage.cluster.workers()[0]
    stage.event("EC2 Instance State-change Notification", instance_id="i-0123456789abcdef0", state="terminated")
    stage.event("EC2 Instance State-change Notification", instance_id=worker, state="running")
    stage.event("EC2 Spot Instance Interruption Warning", instance_id=worker, instance_action="terminate")
    stage.sweep(4)


def _ec2_has_nothing_left(log: Log) -> None:
    stage = Stage(log, day=6)
    for zone in ("us-east-1a", "us-east-1b"):
        stage.cluster.ec2.exhaust("t3.small", zone)
    stage.burst()
    stage.sweep(3)


def _a_budget_blocks_the_drain(log: Log) -> None:
    stage = Stage(log, Policy(version=1, workers=Workers(min=1)), day=7)
    stage.cluster.apply(deployment(replicas=4, cpu=100, budget=Budget(max_unavailable=0)))
    stage.cluster.run(1500)
    stage.sweep(4)


def _a_removal_is_stuck(log: Log) -> None:
    stage = Stage(log, day=8)
    stage.cluster.ssm.mute = True
    for worker in stage.cluster.workers():
        stage.event("EC2 Spot Instance Interruption Warning", instance_id=worker, instance_action="terminate")
    stage.cluster.fail("ec2", "terminate", times=None, code="UnauthorizedOperation")
    stage.sweep(16)


def _pods_that_fit_nowhere(log: Log) -> None:
    stage = Stage(log, day=9)
    stage.burst(2, cpu=12_000)
    stage.sweep(2)


def _every_worker_is_kept_by_something(log: Log) -> None:
    stage = Stage(log, Policy(version=1, workers=Workers(min=1)), day=12)
    stage.cluster.apply(database(replicas=1))
    stage.cluster.run(60)
    stage.cluster.apply(bare("job"))
    stage.cluster.apply(bare("other-job"))
    stage.cluster.run(1500)
    stage.sweep(2)


def _is_paused_then_only_watches(log: Log) -> None:
    stage = Stage(log, day=10)
    stage.state(mode=ModeSetting(mode=Mode.PAUSED, set_at_s=0))
    stage.sweep()
    stage.state(mode=ModeSetting(mode=Mode.OBSERVE, set_at_s=0))
    stage.burst()
    stage.sweep()


def _no_server_tells_what_the_scheduler_asks(log: Log) -> None:
    stage = Stage(log, day=13)
    stage.cluster.ssm.refusing = True
    stage.burst()
    stage.sweep(2)


def _the_table_is_gone(log: Log) -> None:
    stage = Stage(log, day=11)
    stage.cluster.fail("dynamodb", "load", times=2, code="ResourceNotFoundException")
    stage.sweep(2)
    log.add("sweep", stage.cluster.now_s, "2027-01-26T08:04:25.000Z 00000003 Task timed out after 25.00 seconds")


def _a_worker_is_too_old(log: Log) -> None:
    stage = Stage(log, Policy(version=1, rotation=Rotation(max_age_s=3600)), day=14, history_s=3600)
    stage.cluster.apply(deployment(replicas=4, cpu=800))
    stage.sweep(6)


SITUATIONS: Final = (
    _grows_and_shrinks,
    _reaches_the_maximum,
    _workers_never_join,
    _metrics_fail,
    _webhooks_are_turned_away,
    _machines_come_and_go,
    _ec2_has_nothing_left,
    _a_budget_blocks_the_drain,
    _a_removal_is_stuck,
    _pods_that_fit_nowhere,
    _every_worker_is_kept_by_something,
    _is_paused_then_only_watches,
    _no_server_tells_what_the_scheduler_asks,
    _the_table_is_gone,
    _a_worker_is_too_old,
)


def capture(prefix: str, situations: Sequence[Callable[[Log], None]] = SITUATIONS) -> list[Line]:
    """Play each situation, on a day of its own; returns all lines. `prefix` is that of the functions' names."""
    log = Log(prefix)
    for play in situations:
        play(log)
    return log.lines
