"""SNS: the `Notifier` port."""

import json
import logging
from collections.abc import Mapping
from typing import Any, Final

from autoscaler.aws.clients import Clients
from autoscaler.aws.failures import told_as
from autoscaler.in_words import plain_text
from autoscaler.ports import PortError

SUBJECT_LENGTH: Final = 100
MESSAGE_BYTES: Final = 120_000
"""SNS takes 256 KB for all the forms of a message together; ours are two."""


class SnsNotifier:
    """Publishes the decision document: as JSON to programs, as a few plain lines to e-mail."""

    def __init__(self, clients: Clients, *, topic_arn: str, logger: logging.Logger | Any) -> None:
        self._clients = clients
        self._topic_arn = topic_arn
        self._logger = logger

    def notify(self, document: Mapping[str, Any]) -> None:
        """Tell. A failure is logged, never raised."""
        attributes = {name: str(document.get(name) or "none") for name in ("action", "reason", "severity")}
        try:
            with told_as(PortError, f"publish to {self._topic_arn}"):
                self._clients.sns().publish(
                    TopicArn=self._topic_arn,
                    Subject=subject_of(document),
                    MessageStructure="json",
                    Message=message_of(document),
                    MessageAttributes={
                        name: {"DataType": "String", "StringValue": value} for name, value in attributes.items()
                    },
                )
        except PortError as error:
            self._logger.warning("The notification was not sent: %s", error)


class NoNotifier:
    """Nobody asked to be told: no topic is set."""

    def notify(self, document: Mapping[str, Any]) -> None:
        """Do nothing."""


def subject_of(document: Mapping[str, Any]) -> str:
    """Cluster, action, reason. SNS wants printable ASCII, at most 100 characters, not beginning with a space."""
    text = f"k3s {document.get('cluster_id', '?')}: {document.get('action', '?')} ({document.get('reason', '?')})"
    return "".join(letter if " " <= letter <= "~" else "?" for letter in text)[:SUBJECT_LENGTH]


def message_of(document: Mapping[str, Any]) -> str:
    """One form a protocol; lists that would make it too large are left out, and said so."""
    kept = dict(document)
    for field in ("blocked", "signals", "operations"):
        if len(json.dumps(kept)) <= MESSAGE_BYTES:
            break
        kept[field] = "left out: too long for a message, see the log"
    return json.dumps({"default": json.dumps(kept), "email": plain_text(kept)})
