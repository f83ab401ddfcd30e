"""Slack: what SQS hands over in one batch becomes one message of an incoming webhook.

The webhook's address is a secret: whoever has it can post. It is read from Parameter Store and stands in no error and
in no log line. Slack says what is wrong in a word (Slack API, "Sending messages using incoming webhooks").
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import urllib3

from autoscaler.ports import PortError

MOST_IN_WORDS: Final = 10
MESSAGE_LETTERS: Final = 500
"""Of one piece of news. Slack cuts a text at 40,000."""
TIMEOUT_S: Final = 8.0
WORDS_OF_SLACK: Final = 100
MARKS: Final[Mapping[str, str]] = {"critical": ":red_circle:", "warning": ":large_orange_circle:"}
"""Beside the severity's own name: a colour alone tells some people nothing."""


class SlackUnavailable(PortError):
    """The message was not posted, as far as we know. The words never hold the address."""


class SlackChannel:
    """One incoming webhook."""

    def __init__(self, address: Callable[[], str], *, allow_http: bool = False) -> None:
        self._address = address
        self._schemes = {"https", "http"} if allow_http else {"https"}
        self._pool = urllib3.PoolManager(retries=False, timeout=TIMEOUT_S)

    def post(self, text: str) -> None:
        """Post. Raises SlackUnavailable, and ParameterUnavailable where the address cannot be read."""
        address = self._address().strip()
        if urlsplit(address).scheme not in self._schemes or not urlsplit(address).hostname:
            raise SlackUnavailable("the parameter holds no https address: put the incoming webhook's there")
        try:
            answer = self._pool.request("POST", address, json={"text": text}, redirect=False)
        except urllib3.exceptions.HTTPError as error:
            # Its own text names the address.
            raise SlackUnavailable(f"Slack did not answer: {type(error).__name__}", effect_unknown=True) from None
        if answer.status != 200:
            said = answer.data[:WORDS_OF_SLACK].decode("ascii", "replace")
            raise SlackUnavailable(f"Slack answered {answer.status}: {said}", code=str(answer.status))


def text_of(bodies: Sequence[str]) -> str:
    """One message for a batch: a line for each piece of news, in the order in which they came; the rest is counted."""
    lines = [_line(body) for body in bodies[:MOST_IN_WORDS]]
    more = len(bodies) - MOST_IN_WORDS
    return "\n".join([*lines, *([f"and {more} more: `k3s-autoscaler history` has them"] if more > 0 else [])])


def _line(body: str) -> str:
    try:
        document: Any = json.loads(body)
    except ValueError:
        document = None
    if not isinstance(document, Mapping):
        return _plain(body)
    severity = str(document.get("severity") or "info")
    mark = f"{MARKS[severity]} {severity} " if severity in MARKS else ""
    withheld = f" ({document['withheld']} before it were not sent)" if document.get("withheld") else ""
    said = str(document.get("text") or document.get("message") or "no message")
    return f"{mark}*{_plain(str(document.get('cluster_id', '?')))}* {_plain(said)}{withheld}"


def _plain(text: str) -> str:
    """As Slack shows it letter by letter: these three mean something else to it (Slack API, "Formatting text")."""
    return text.strip()[:MESSAGE_LETTERS].replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
