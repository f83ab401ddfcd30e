"""One process of the race: it looks when it is told to, through the service's own handlers, until its pipe closes."""

import json
import os
import signal
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import msgspec

from autoscaler.aws.clients import Clients
from autoscaler.aws.clock import Context
from autoscaler.aws.dynamodb import DynamoStateStore
from autoscaler.aws.idempotency import Once
from autoscaler.ports import PortError, Ports
from autoscaler.runtime import App
from autoscaler.telemetry import Telemetry
from handlers import alerts, sweep
from tests.aws.table import IDEMPOTENCY, STATE
from tests.handlers.support import SETTINGS, FakeContext, accept_test_token, nobody_is_ours, post, sample
from tests.race.dynalite import clients_at
from tests.race.evidence import Evidence
from tests.race.ports import POLICY, Need, Stop, ports_of, scene

HISTORY_DAYS: Final = 30


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """One look to take: what the parent sends."""

    number: int
    """No other look of the race has it."""
    cluster_id: str
    need: Need
    evidence: Path
    webhook: bool
    """Woken by Alertmanager, else by the sweep."""
    at_s: float
    """When to begin, on the machine's monotonic clock: all at once."""
    later_s: int = 0
    """Virtual seconds since the need arose."""
    listed: bool = False
    stops: frozenset[Stop] = frozenset()


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """The process stands at a stop until it is told to go on."""

    stop: Stop


class Looked(msgspec.Struct, frozen=True, kw_only=True):
    """How the look ended: the document's action, `busy`, or `failed`."""

    action: str
    message: str
    failures: tuple[str, ...] = ()


class Unconditional(DynamoStateStore):
    """The store without its one condition: what the race must not let through."""

    def _write_request(self, *arguments: Any) -> Any:
        request = super()._write_request(*arguments)
        conditional = ("ConditionExpression", "ExpressionAttributeNames", "ExpressionAttributeValues")
        return {name: value for name, value in request.items() if name not in conditional}


def store_of(
    clients: Clients, cluster_id: str, now_s: float, kind: type[DynamoStateStore] = DynamoStateStore
) -> DynamoStateStore:
    """The store of one cluster at one virtual time."""
    return kind(clients, table=STATE, cluster_id=cluster_id, history_days=HISTORY_DAYS, wall_clock=lambda: now_s)


def serve(pipe: "Connection[Held | Looked | None, Look | None]", url: str, kind: type[DynamoStateStore]) -> None:
    """The process' whole life: it ends when the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's: when it is gone, the pipe ends
    clients = clients_at(url)
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        telemetry = Telemetry(cluster_id="race", stream=nowhere)
        pipe.send(None)
        while True:
            try:
                look = pipe.recv()
            except (EOFError, ConnectionError):
                return
            if look is not None:
                pipe.send(_look(look, pipe, clients, telemetry, kind))


def _look(
    look: Look,
    pipe: "Connection[Held | Looked | None, Look | None]",
    clients: Clients,
    telemetry: Telemetry,
    kind: type[DynamoStateStore],
) -> Looked:
    stops = set(look.stops)

    def reach(stop: Stop) -> None:
        if stop in stops:
            stops.remove(stop)
            pipe.send(Held(stop=stop))
            pipe.recv()

    seen = scene(look.need, look.later_s)
    store = store_of(clients, look.cluster_id, seen.now_s, kind)
    evidence = Evidence(look.evidence)

    def ports(_: Context) -> Ports:
        return ports_of(seen, look.cluster_id, store, evidence, reach, listed=look.listed)

    app = App(
        settings=msgspec.structs.replace(SETTINGS, cluster_id=look.cluster_id),
        policy=POLICY,
        telemetry=telemetry,
        ports=ports,
        ours_among=nobody_is_ours,
        accept_token=accept_test_token,
        clients=clients,
        begin=clients.begin,
    )
    time.sleep(max(0.0, look.at_s - time.monotonic()))
    return _by_webhook(app, look, int(seen.now_s)) if look.webhook else _by_sweep(app)


def _by_sweep(app: App) -> Looked:
    try:
        return _looked(sweep.handle(app, {}, FakeContext()))
    except PortError as error:
        return Looked(action="failed", message=str(error))


def _by_webhook(app: App, look: Look, now_s: int) -> Looked:
    """Each look is a webhook of its own: powertools' idempotency, which removes doubles, must not win the race."""
    event = post({**sample("firing"), "groupKey": f"race-{look.number}"})
    once = Once(app.clients.dynamodb(), table=IDEMPOTENCY)
    answer = alerts.handle(app, once, event, FakeContext(), now_s=now_s)
    body = json.loads(answer["body"])
    if answer["statusCode"] == 200:
        return _looked(body)
    busy = answer["statusCode"] == 503 and str(body["error"]).startswith("Another invocation is at work")
    return Looked(action="busy" if busy else "failed", message=f"{answer['statusCode']}: {body['error']}")


def _looked(document: dict[str, Any]) -> Looked:
    action = "busy" if document["reason"] == "busy" else document["action"]
    failures = tuple(str(failure) for failure in document.get("failures", ()))
    return Looked(action=action, message=document["message"], failures=failures)
