"""What the service tells about itself: JSON log lines and a metric, made in one place.

The decision document is one log line whose top-level fields are the document's (docs/operations.md lists them); each
sentence of its `done` and `failures` is a line too. Metrics cost money by their number: there is one, which all
alarms on our own doings share (autoscaler/conditions.py); what only a chart needs is asked of the log.
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
from autoscaler.conditions import WATCHDOG_HEARD, in_digits
from autoscaler.model import Action, MetricsStatus, Trigger
from autoscaler.ports import PortError

SERVICE: Final = "k3s-autoscaler"
NAMESPACE: Final = "k3s-autoscaler"
CONDITIONS_METRIC: Final = "Conditions"
LONG_FIELDS: Final = (
    "conditions", "signals", "metrics_problems", "failures", "done", "operations", "blocked", "earlier",
)  # fmt: skip
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
        """Log the document as one line, its message as the line's own, and send what a person must mend."""
        needs_attention = (
            document.get("metrics_status") in {MetricsStatus.PARTIAL, MetricsStatus.UNAVAILABLE}
            or document.get("action") == Action.HELD_BACK
            or document.get("failures")
        )
        tell = self.logger.warning if needs_attention else self.logger.info
        tell(str(document.get("message", "")), extra=_in_order(document))
        for one in (*(document.get("earlier") or ()), document):
            self._steps(one)
        self._emit(in_digits(document))

    def _steps(self, document: Mapping[str, Any]) -> None:
        """What happened, a line a sentence: then a query can count and take apart each of them."""
        of = {"of_decision": document.get("decision_id"), "reason": "step"}
        for sentence in document.get("done") or ():
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
        """Log an error. A dependency's failure is a sentence; anything else is a fault, with its trace."""
        fields = {"reason": "failed", "error": type(error).__name__}
        if isinstance(error, PortError):
            self.logger.error(str(error), extra={**fields, "code": error.code, "effect_unknown": error.effect_unknown})
        else:
            self.logger.error(str(error), extra=fields, exc_info=error)

    def watchdog(self) -> None:
        """Tell a sign of life of the alert path: its absence is alarmed."""
        self.logger.info("The alert path lives: the Watchdog alert arrived.", extra={"reason": "watchdog"})
        self._emit(WATCHDOG_HEARD)

    def _emit(self, value: int) -> None:
        metrics = AmazonCloudWatchEMFProvider(
            namespace=NAMESPACE, service=SERVICE, dimension_set={"cluster_id": self._cluster_id}
        )
        metrics.add_metric(name=CONDITIONS_METRIC, unit=MetricUnit.NoUnit, value=value)
        line = json.dumps(metrics.serialize_metric_set(), separators=(",", ":"))
        (self._stream or sys.stdout).write(f"{line}\n")


def _in_order(document: Mapping[str, Any]) -> dict[str, Any]:
    """The line's fields: the message is the line's own, and lists come last."""
    first = {name: value for name, value in document.items() if name not in {"message", *LONG_FIELDS}}
    return first | {name: document[name] for name in LONG_FIELDS if name in document}
