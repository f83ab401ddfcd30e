"""Real Prometheus and real Alertmanager, with the configuration that the project renders from the policy."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from autoscaler.deploy.rules import Discovery, Settings, render, write
from autoscaler.policy import Policy
from autoscaler.simulator.stack.processes import StackError, Supervisor, answers, free_port, repository_root

FIND_TIMEOUT_S: Final = 600.0
"""Where it is allowed to, find-program installs packages."""
START_TIMEOUT_S: Final = 30.0
REFRESH_S: Final = 2


@dataclass(frozen=True, kw_only=True)
class Program:
    """An installed program."""

    name: str
    path: str
    version: str

    @property
    def title(self) -> str:
        """Name and version."""
        return f"{self.name} {self.version}"


@dataclass(frozen=True, kw_only=True)
class Programs:
    """The four that the stack needs."""

    prometheus: Program
    promtool: Program
    alertmanager: Program
    amtool: Program


@dataclass(frozen=True, kw_only=True)
class Addresses:
    """Where the two are; known before they run, because others are told beforehand."""

    prometheus_port: int
    alertmanager_port: int

    @property
    def prometheus_url(self) -> str:
        """Prometheus' address."""
        return f"http://127.0.0.1:{self.prometheus_port}"

    @property
    def alertmanager_url(self) -> str:
        """Alertmanager's address."""
        return f"http://127.0.0.1:{self.alertmanager_port}"


def pick_addresses() -> Addresses:
    """Two free ports."""
    return Addresses(prometheus_port=free_port(), alertmanager_port=free_port())


def find_programs(supervisor: Supervisor, env: Mapping[str, str]) -> Programs:
    """Find, or let scripts/find-program install, what is needed. Raises StackError with its sentence."""
    found = {name: _find(supervisor, name, env) for name in ("prometheus", "promtool", "alertmanager", "amtool")}
    return Programs(**found)


def _find(supervisor: Supervisor, name: str, env: Mapping[str, str]) -> Program:
    script = str(repository_root() / "scripts" / "find-program")
    path = supervisor.run(f"find-{name}", [script, name], env=env, timeout_s=FIND_TIMEOUT_S).strip().splitlines()[-1]
    # Some versions print their version on standard output, some on standard error.
    said = supervisor.run(f"version-{name}", ["sh", "-c", '"$0" --version 2>&1', path], env=env)
    match = re.search(r"version (\d+\.\d+\.\d+)", said)
    if match is None:
        raise StackError(f"{path} --version does not tell a version: {said.strip()!r}.")
    return Program(name=name, path=path, version=match.group(1))


def start_monitors(
    supervisor: Supervisor,
    programs: Programs,
    addresses: Addresses,
    *,
    policy: Policy,
    cluster_id: str,
    cluster_url: str,
    webhook_url: str,
    webhook_token: str,
    folder: Path,
    env: Mapping[str, str],
) -> None:
    """Render, check and start. Raises StackError with what promtool, amtool or the programs said."""
    folder.mkdir()
    token_path = folder / "webhook-token"
    token_path.touch(mode=0o600)
    token_path.write_text(webhook_token)
    settings = Settings(
        cluster_id=cluster_id,
        webhook_url=webhook_url,
        credentials_file=str(token_path),
        kube_state_metrics=_static(cluster_url.removeprefix("http://"), path="/kube-state-metrics"),
        kube_state_metrics_telemetry=_static(cluster_url.removeprefix("http://"), path="/kube-state-metrics-telemetry"),
        node_exporter={
            "http_sd_configs": [{"url": f"{cluster_url}/targets/node-exporter", "refresh_interval": f"{REFRESH_S}s"}]
        },
        prometheus=_static(f"127.0.0.1:{addresses.prometheus_port}"),
        alertmanager=_static(f"127.0.0.1:{addresses.alertmanager_port}"),
    )
    write(render(policy, settings), folder)
    supervisor.run("promtool", [programs.promtool.path, "check", "config", str(folder / "prometheus.yml")], env=env)
    supervisor.run("amtool", [programs.amtool.path, "check-config", str(folder / "alertmanager.yml")], env=env)
    alertmanager = supervisor.start(
        "alertmanager",
        [
            programs.alertmanager.path,
            f"--config.file={folder / 'alertmanager.yml'}",
            f"--storage.path={folder / 'alertmanager-data'}",
            f"--web.listen-address=127.0.0.1:{addresses.alertmanager_port}",
            "--cluster.listen-address=",  # alone: no gossip port
        ],
        env=env,
    )
    prometheus = supervisor.start(
        "prometheus",
        [
            programs.prometheus.path,
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'prometheus-data'}",
            f"--web.listen-address=127.0.0.1:{addresses.prometheus_port}",
        ],
        env=env,
    )
    for running, url in ((alertmanager, addresses.alertmanager_url), (prometheus, addresses.prometheus_url)):
        ready_url = f"{url}/-/ready"
        supervisor.wait_ready(running, lambda ready_url=ready_url: answers(ready_url), timeout_s=START_TIMEOUT_S)  # type: ignore[misc] # mypy does not see the default's type


def _static(target: str, *, path: str = "/metrics") -> Discovery:
    return {"static_configs": [{"targets": [target], "labels": {"__metrics_path__": path}}]}
