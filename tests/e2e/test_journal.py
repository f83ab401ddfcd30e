"""The functions' journal, read while it is written."""

import base64
import json
from pathlib import Path
from typing import Any

from autoscaler.simulator.stack.journal import Invocation, Journal

WEBHOOK = {"version": "4", "alerts": [{"labels": {"alertname": "K3sUnschedulablePods"}}]}
DOCUMENT = {"decision_id": "01", "action": "none", "message": "Nothing to do."}


def invocation(key: str = "alerts", *, event: dict[str, Any], result: Any) -> Invocation:
    return Invocation(
        function=f"k3s-autoscaler-local-{key}",
        request_id="r",
        started_at_s=1.0,
        ended_at_s=2.0,
        event=event,
        result=result,
    )


def test_a_webhook_tells_its_alerts_and_the_document_in_its_answer() -> None:
    one = invocation(event={"body": json.dumps(WEBHOOK)}, result={"statusCode": 200, "body": json.dumps(DOCUMENT)})
    assert (one.key, one.status, one.alert_names, one.document) == ("alerts", 200, ("K3sUnschedulablePods",), DOCUMENT)


def test_a_webhook_that_came_encoded_reads_the_same() -> None:
    body = base64.b64encode(json.dumps(WEBHOOK).encode()).decode()
    one = invocation(event={"body": body, "isBase64Encoded": True}, result={"statusCode": 503, "body": "{}"})
    assert (one.alert_names, one.document) == (("K3sUnschedulablePods",), None)


def test_a_refused_body_is_not_read() -> None:
    one = invocation(event={"body": "{"}, result={"statusCode": 400, "body": '{"error": "not JSON"}'})
    assert (one.alert_names, one.document, one.error) == ((), None, '{"error": "not JSON"}')


def test_an_error_is_no_document() -> None:
    one = invocation("sweep", event={}, result={"errorMessage": "the table is away", "errorType": "StoreUnavailable"})
    assert (one.status, one.document, one.error) == (500, None, "the table is away")


def test_only_whole_lines_are_read_and_each_once(tmp_path: Path) -> None:
    path = tmp_path / "invocations.jsonl"
    journal = Journal(path)
    assert journal.news() == []
    line = json.dumps(
        {"function": "x-sweep", "request_id": "1", "started_at_s": 1, "ended_at_s": 2, "event": {}, "result": DOCUMENT}
    )
    path.write_text(line + "\n" + line[:20])
    assert [one.document for one in journal.news()] == [DOCUMENT]
    path.write_text(line + "\n" + line + "\n")
    assert len(journal.news()) == 1
    assert journal.news() == []
