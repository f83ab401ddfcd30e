"""A real Alertmanager takes the rendered routes: what arrives at the webhook, how soon, how often, with which token."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.request import Request, urlopen

import pytest

from autoscaler.deploy.rules import Settings, render, write
from autoscaler.policy import Policy
from tests.monitoring.programs import QuietHandler, daemon, free_port, get_json, serving, wait_until
from tests.monitoring.scrape import DATA

pytestmark = pytest.mark.real_programs


class Post(NamedTuple):
    at_s: float
    authorization: str | None
    body: dict[str, Any]

    @property
    def alert(self) -> str:
        return str(self.body["commonLabels"]["alertname"])


@contextmanager
def webhook(first_status: int) -> Iterator[tuple[str, list[Post]]]:
    """Answers the first post with `first_status` and every other one with 200."""
    posts: list[Post] = []

    class Handler(QuietHandler):
        def reply(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            posts.append(Post(time.monotonic(), self.headers["Authorization"], body))
            self.answer(first_status if len(posts) == 1 else 200)

    with serving(Handler) as target:
        yield f"http://{target}/alerts", posts


def post_alerts(base: str, *labels: dict[str, str]) -> None:
    body = json.dumps([{"labels": one, "annotations": {"summary": "s"}} for one in labels]).encode()
    request = Request(f"{base}/api/v2/alerts", data=body, headers={"Content-Type": "application/json"})  # noqa: S310 - loopback
    with urlopen(request, timeout=10) as response:  # noqa: S310 - loopback
        assert response.status == 200


def test_what_reaches_the_webhook(tmp_path: Path) -> None:
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    token = tmp_path / "token"
    token.write_text("made-up\n", encoding="utf-8")
    with webhook(first_status=503) as (address, posts):
        settings = Settings(cluster_id="demo", webhook_url=address, credentials_file=str(token))
        write(render(Policy(version=1), settings), tmp_path)
        with daemon(
            "alertmanager",
            f"--config.file={tmp_path / 'alertmanager.yml'}",
            f"--storage.path={tmp_path / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--cluster.listen-address=",
            log=tmp_path / "alertmanager.log",
        ):
            wait_until(lambda: bool(get_json(f"{base}/api/v2/status")), within_s=30, what="Alertmanager answers")
            pending = {"alertname": "K3sUnschedulablePods", "cluster": "demo", "severity": "warning", "scale": "up"}
            sent = time.monotonic()
            post_alerts(
                base,
                pending,
                {**pending, "cluster": "another", "alertname": "K3sHighCpu"},
                {"alertname": "DiskFull", "cluster": "demo", "severity": "critical"},
            )
            wait_until(lambda: len(posts) >= 3, within_s=40, what="a refused post, its retry and a repeat arrive")

    assert {post.alert for post in posts} == {"K3sUnschedulablePods"}
    assert {post.authorization for post in posts} == {"Bearer made-up"}
    refused, retried, repeated = posts[:3]
    # On a machine that does other things too: the steps themselves are 0 s, about 1 s and 10 s.
    assert refused.at_s - sent < 5
    assert retried.at_s - refused.at_s < 5
    assert 8 < repeated.at_s - retried.at_s < 20
    assert refused.body["version"] == "4"
    assert refused.body["alerts"][0]["startsAt"] == repeated.body["alerts"][0]["startsAt"]
    sample = json.loads((DATA / "alertmanager-firing.json").read_text(encoding="utf-8"))
    assert refused.body.keys() >= sample.keys()
