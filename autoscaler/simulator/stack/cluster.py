"""A client of the simulated cluster's HTTP interface (`emulator_http`)."""

import urllib.parse
from typing import Any, Final

import msgspec
import requests

from autoscaler.model import Sample
from autoscaler.simulator.emulator.moto import Call
from autoscaler.simulator.realtime import ClusterState
from autoscaler.simulator.stack.processes import StackError
from autoscaler.simulator.world.workload import Workload

TIMEOUT_S: Final = 10


class ClusterClient:
    """Plays with the cluster and looks at it. Every method raises StackError when the emulator does not answer."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._session = requests.Session()
        self._session.trust_env = False  # no proxy before the loopback interface

    def state(self, since_s: float = 0.0) -> ClusterState:
        """Nodes, pods, instances, and what happened from `since_s` on."""
        return msgspec.json.decode(self._request("GET", f"/state?since={since_s!r}"), type=ClusterState)

    def calls(self, since_s: float = 0.0, operation: str | None = None) -> list[Call]:
        """AWS calls that arrived at or after a moment."""
        query = f"/calls?since={since_s!r}" + (f"&operation={operation}" if operation else "")
        return msgspec.json.decode(self._request("GET", query), type=list[Call])

    def kube_state_metrics(self) -> str:
        """The exposition as Prometheus scrapes it."""
        return self._request("GET", "/kube-state-metrics").decode()

    def answer(self, promql: str) -> list[Sample]:
        """The answer to one of the core's queries by the simulator's own reckoning."""
        query = urllib.parse.urlencode({"query": promql})
        return msgspec.json.decode(self._request("GET", f"/recorded?{query}"), type=list[Sample])

    def apply(self, workload: Workload) -> None:
        """Create or change a workload."""
        self._request("POST", "/workloads", workload)

    def scale(self, owner: str, replicas: int) -> None:
        """Set the replicas of `namespace/name`."""
        self._request("POST", f"/workloads/{owner}/scale", {"replicas": replicas})

    def burn(self, owner: str, cores: float) -> None:
        """Set the CPU that each pod of `namespace/name` wants."""
        self._request("POST", f"/workloads/{owner}/burn", {"cores": cores})

    def delete(self, owner: str) -> None:
        """Delete a workload and its pods."""
        self._request("DELETE", f"/workloads/{owner}")

    def send_events_to(self, url: str | None) -> None:
        """Where EventBridge's events go; None sends them nowhere."""
        self._request("POST", "/events", {"target_url": url})

    def _request(self, method: str, path: str, body: Any = None) -> bytes:
        data = None if body is None else msgspec.json.encode(body)
        try:
            answer = self._session.request(method, self._url + path, data=data, timeout=TIMEOUT_S)
        except requests.RequestException as error:
            raise StackError(f"The simulated cluster does not answer {method} {path}: {error}.") from error
        if not answer.ok:
            raise StackError(f"The simulated cluster refused {method} {path}: {answer.text.strip()}.")
        return answer.content
