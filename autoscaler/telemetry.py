"""What the service tells about itself: JSON log lines and a handful of metrics, made in one place.

The decision document is one log line whose top-level fields are the document's (docs/operations.md lists them); each
sentence of its `events` and `failures` is a line too. Metrics cost money by their number: there is one for each thing
that an alarm or a chart of long times needs, all on one set of dimensions; what the log can be asked has none.
"""

import json
import logging
import sys
from collections.abc import Mapping
from typing import IO, Any, Final

from aws_lambda_powertools import Logger
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.metrics.provider.cloudwatch_emf.cloudwatch import AmazonCloudWatchEMFProvider

from autoscaler.aws.clock import Context
from autoscaler.model import Action, MetricsStatus, Trigger
from autoscaler.ports import PortError

SERVICE: Final = "k3s-autoscaler"
NAMESPACE: Final = "k3s-autoscaler"
UNSCHEDULABLE_SIGNAL: Final = "unschedulable_pods"
CAPS: Final = frozenset({"at_max", "at_cost_cap"})
"""Reasons of refusals that only the operator ends: the policy's own ends."""

READY: Final = "ReadyWorkers"
DESIRED: Final = "DesiredWorkers"
JOINING: Final = "JoiningWorkers"
DRAINING: Final = "DrainingWorkers"
UNSCHEDULABLE: Final = "UnschedulablePods"
WAITING_AT_MAX: Final = "PodsWaitingAtMax"
OPEN_OPERATIONS: Final = "OpenOperations"
STUCK_OPERATIONS: Final = "StuckOperations"
JOIN_FAILURES: Final = "JoinFailures"
INCOMPLETE: Final = "MetricsIncomplete"
ERRORS: Final = "Errors"
WATCHDOG: Final = "WatchdogReceived"
METRICS: Final = (
    READY, DESIRED, JOINING, DRAINING, UNSCHEDULABLE, WAITING_AT_MAX, OPEN_OPERATIONS, STUCK_OPERATIONS, JOIN_FAILURES,
    INCOMPLETE, ERRORS, WATCHDOG,
)  # fmt: skip
LONG_FIELDS: Final = ("signals", "metrics_problems", "failures", "events", "operations", "blocked", "earlier")
"""Lists stand at the end of a line: Logs Insights finds the first 200 fields of a JSON line and no more, and each entry
of a list is a field or several (CloudWatch Logs User Guide, "Supported logs and discovered fields")."""


class Telemetry:
    """One a process. Nothing that it is given holds a secret, and it logs nothing else: no event, no header."""

    def __init__(self, *, cluster_id: str, stream: IO[str] | None = None) -> None:
        self._cluster_id = cluster_id
        self._stream = stream
        self._cold_start = True
        self.logger = Logger(service=SERVICE, stream=stream, use_rfc3339=True, utc=True, location=None)
        handler = self.logger.registered_handler
        if stream is not None and isinstance(handler, logging.StreamHandler):
            handler.setStream(stream)  # Powertools makes one handler for a service's name and keeps it
        for noisy in ("botocore", "urllib3"):
            # On DEBUG they log bodies, a decrypted parameter among them.
            logging.getLogger(noisy).setLevel(logging.INFO)

    def begin(self, trigger: Trigger, context: Context) -> None:
        """Start an invocation: every line until the next one carries what woke us."""
        self.logger.set_correlation_id(trigger.correlation_id or context.aws_request_id)
        self.logger.append_keys(
            cluster_id=self._cluster_id,
            trigger_kind=trigger.kind,
            function_request_id=context.aws_request_id,
            cold_start=self._cold_start,
        )
        self._cold_start = False

    def decision(self, document: Mapping[str, Any]) -> None:
        """Log the document as one line, its message as the line's own, and put its numbers into metrics."""
        needs_attention = (
            document.get("metrics_status") in {MetricsStatus.PARTIAL, MetricsStatus.UNAVAILABLE}
            or document.get("action") == Action.REFUSED
            or document.get("failures")
        )
        tell = self.logger.warning if needs_attention else self.logger.info
        tell(str(document.get("message", "")), extra=_in_order(document))
        for one in (*(document.get("earlier") or ()), document):
            self._steps(one)
        self._emit(metric_values(document))

    def _steps(self, document: Mapping[str, Any]) -> None:
        """What happened, a line a sentence: then a query can count and take apart each of them."""
        of = {"of_decision": document.get("decision_id"), "reason": "step"}
        for sentence in document.get("events") or ():
            self.logger.info(str(sentence), extra={**of, "step": "done"})
        for sentence in document.get("failures") or ():
            self.logger.warning(str(sentence), extra={**of, "step": "failed"})

    def told(self, message: str, **fields: Any) -> None:
        """Log something that happened and needs no attention."""
        self.logger.info(message, extra=fields)

    def rejected(self, status: int, sentence: str) -> None:
        """Log a request that was turned away."""
        self.logger.warning(sentence, extra={"http_status": status, "reason": "rejected"})

    def failed(self, error: Exception) -> None:
        """Log an error and count it. A dependency's failure is a sentence; anything else is a fault, with its trace."""
        fields = {"reason": "failed", "error": type(error).__name__}
        if isinstance(error, PortError):
            self.logger.error(str(error), extra={**fields, "code": error.code, "effect_unknown": error.effect_unknown})
        else:
            self.logger.error(str(error), extra=fields, exc_info=error)
        self._emit({ERRORS: 1})

    def watchdog(self) -> None:
        """Count a sign of life of the alert path: alarm on its absence."""
        self.logger.info("The alert path lives: the Watchdog alert arrived.", extra={"reason": "watchdog"})
        self._emit({WATCHDOG: 1})

    def _emit(self, values: Mapping[str, float]) -> None:
        metrics = AmazonCloudWatchEMFProvider(
            namespace=NAMESPACE, service=SERVICE, dimension_set={"cluster_id": self._cluster_id}
        )
        for name, value in values.items():
            metrics.add_metric(name=name, unit=MetricUnit.Count, value=value)
        line = json.dumps(metrics.serialize_metric_set(), separators=(",", ":"))
        (self._stream or sys.stdout).write(f"{line}\n")


def _in_order(document: Mapping[str, Any]) -> dict[str, Any]:
    """The line's fields: the message is the line's own, and lists come last."""
    first = {name: value for name, value in document.items() if name not in {"message", *LONG_FIELDS}}
    return first | {name: document[name] for name in LONG_FIELDS if name in document}


def metric_values(document: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a decision. What is not known is left out: a metric without a value is a gap, not a zero."""
    nodes = document.get("nodes") or {}
    signals = {signal.get("name"): signal.get("value") for signal in document.get("signals") or ()}
    operations = document.get("operations") or ()
    stuck = [operation.get("stuck") for operation in operations]
    waiting = signals.get(UNSCHEDULABLE_SIGNAL)
    at_max = document.get("action") == Action.REFUSED and document.get("reason") in CAPS
    asked = document.get("metrics_status") in set(MetricsStatus)
    values = {
        READY: nodes.get("ready"),
        DESIRED: nodes.get("desired"),
        JOINING: nodes.get("joining"),
        DRAINING: nodes.get("draining"),
        UNSCHEDULABLE: waiting,
        WAITING_AT_MAX: waiting if at_max or waiting is None else 0,
        OPEN_OPERATIONS: len(operations),
        STUCK_OPERATIONS: None if None in stuck else sum(stuck),
        JOIN_FAILURES: document.get("join_failures"),
        INCOMPLETE: int(document.get("metrics_status") != MetricsStatus.OK) if asked else None,
        ERRORS: len(document.get("failures") or ()),
    }
    return {name: value for name, value in values.items() if value is not None}
