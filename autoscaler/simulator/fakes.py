"""The core's ports over the simulated Prometheus, EC2 and SNS (ssm.py and table.py hold the others)."""

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from autoscaler.model import LaunchContext, LaunchRequest, LaunchResult, Sample
from autoscaler.ports import FleetUnavailable, MetricsUnavailable, PortError
from autoscaler.simulator.ec2 import Ec2
from autoscaler.simulator.metrics.faults import MetricFaults, spoil
from autoscaler.simulator.metrics.recorded import Recorder
from autoscaler.simulator.metrics.signals import TooSlow
from autoscaler.simulator.wires import EC2, PROMETHEUS, SNS, Invocation


class SimMetrics:
    """Prometheus (port Metrics)."""

    def __init__(self, recorder: Recorder, faults: MetricFaults, invocation: Invocation, timeout_s: float) -> None:
        self._recorder = recorder
        self._faults = faults
        self._invocation = invocation
        self._timeout_s = timeout_s

    def query(self, promql: str, *, timeout_s: float | None = None) -> Sequence[Sample]:
        """Answer one of the core's queries. Raises MetricsUnavailable."""
        patience_s = self._timeout_s if timeout_s is None else min(timeout_s, self._timeout_s)

        def effect() -> Sequence[Sample]:
            time = self._invocation.wires.time
            if self._faults.slow:
                time.spend(patience_s)
            try:
                return spoil(self._faults, self._recorder, promql, time.now_s)
            except TooSlow as slow:
                time.spend(patience_s)
                raise MetricsUnavailable(str(slow)) from None

        return self._invocation.call(PROMETHEUS, "query", MetricsUnavailable, effect, promql)


class SimFleet:
    """EC2 (port Fleet)."""

    def __init__(self, ec2: Ec2, invocation: Invocation) -> None:
        self._ec2 = ec2
        self._invocation = invocation

    def describe(self) -> Sequence[Mapping[str, Any]]:
        """Raw DescribeInstances rows. Raises FleetUnavailable."""
        return self._invocation.call(EC2, "describe", FleetUnavailable, self._ec2.describe)

    def look_up(self, instance_ids: Sequence[str]) -> Sequence[Mapping[str, Any]]:
        """Raw rows of these ids. Raises FleetUnavailable."""
        return self._invocation.call(EC2, "look_up", FleetUnavailable, lambda: self._ec2.look_up(instance_ids))

    def launch_context(self) -> LaunchContext:
        """What a request freezes. Raises FleetUnavailable."""
        return self._invocation.call(EC2, "launch_context", FleetUnavailable, self._ec2.launch_context)

    def launch(self, request: LaunchRequest) -> LaunchResult:
        """CreateFleet. Raises FleetUnavailable."""
        return self._invocation.call(EC2, "launch", FleetUnavailable, lambda: self._ec2.create_fleet(request), request)

    def terminate(self, instance_id: str) -> None:
        """TerminateInstances of one. Raises FleetUnavailable."""
        self._invocation.call(EC2, "terminate", FleetUnavailable, lambda: self._ec2.terminate(instance_id), instance_id)


class SimNotifier:
    """SNS (port Notifier): what was told, and what was lost on the way."""

    def __init__(self, told: deque[dict[str, Any]], lost: deque[dict[str, Any]], invocation: Invocation) -> None:
        self._told = told
        self._lost = lost
        self._invocation = invocation

    def notify(self, document: Mapping[str, Any]) -> None:
        """Tell; a failure is noted and never raised."""
        plain = msgspec.json.decode(msgspec.json.encode(document))
        try:
            self._invocation.call(SNS, "notify", PortError, lambda: self._told.append(plain))
        except PortError:
            self._lost.append(plain)
