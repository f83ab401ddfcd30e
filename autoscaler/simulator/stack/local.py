"""The local stack: emulator, deployed service, its functions, Prometheus and Alertmanager, all up or all down."""

import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import msgspec

from autoscaler.policy import Policy
from autoscaler.policy_files import load_policy
from autoscaler.simulator.emulator.emulator import Ready
from autoscaler.simulator.stack.cloud import Account, aws_environment, plain_environment
from autoscaler.simulator.stack.cluster import ClusterClient
from autoscaler.simulator.stack.monitors import Addresses, Programs, find_programs, pick_addresses, start_monitors
from autoscaler.simulator.stack.offline import Functions, LambdaError, start_functions
from autoscaler.simulator.stack.processes import StackError, Supervisor

EMULATOR_TIMEOUT_S: Final = 60.0
SWEEP_EVENT: Final[dict[str, Any]] = {
    "version": "0",
    "detail-type": "Scheduled Event",
    "source": "aws.events",
    "resources": ["arn:aws:events:eu-central-1:123456789012:rule/sweep"],
    "detail": {},
}
"""What EventBridge's schedule sends."""


@dataclass(frozen=True, kw_only=True)
class StackSettings:
    """What a stack is like."""

    policy_path: Path
    cluster_id: str = "demo"
    static_workers: int = 0
    boot_s: float = 8.0
    """From launch until the Node exists, and up to a fifth more."""
    ready_s: float = 2.0
    """From there until it is Ready."""
    lifecycle_events: bool = True
    """Whether EventBridge's events reach the lifecycle function."""
    recorder: bool = False
    """Whether the simulator reckons the recorded series too, for a test to compare."""
    logs: Path | None = None
    """Where every program's output and the functions' journal are copied at the end; None: nowhere."""


@dataclass(frozen=True, kw_only=True)
class LocalStack:
    """A running stack."""

    settings: StackSettings
    policy: Policy
    supervisor: Supervisor
    folder: Path
    emulator: Ready
    account: Account
    cluster: ClusterClient
    functions: Functions
    programs: Programs
    addresses: Addresses
    state_table: str
    webhook_token: str

    def sweep(self) -> dict[str, Any] | LambdaError:
        """Invoke the sweep as the schedule does. Raises StackError when there is no answer."""
        return self.functions.invoke("sweep", SWEEP_EVENT)

    @property
    def functions_log(self) -> Path:
        """Where the functions' log lines go."""
        return self.functions.running.log_path


@contextmanager
def local_stack(settings: StackSettings, *, tell: Callable[[str], None]) -> Iterator[LocalStack]:
    """Start everything; `tell` hears each step. All of it is ended when the block is left.

    Raises StackError with one sentence and the last log lines of what did not start; PolicyError for a wrong policy.
    """
    policy = load_policy(settings.policy_path, named_by="with --policy")
    with tempfile.TemporaryDirectory(prefix="k3s-autoscaler-") as name, Supervisor(Path(name)) as supervisor:
        try:
            yield _start(settings, policy, supervisor, Path(name), tell)
        finally:
            if settings.logs is not None:
                _keep_logs(Path(name), settings.logs)


def _start(
    settings: StackSettings, policy: Policy, supervisor: Supervisor, folder: Path, tell: Callable[[str], None]
) -> LocalStack:
    tell("looking for Prometheus and Alertmanager")
    programs = find_programs(supervisor, plain_environment())
    addresses = pick_addresses()

    tell("starting the AWS emulator (moto) and the simulated K3s cluster")
    emulator = _start_emulator(settings, supervisor, folder)
    account = Account(emulator, settings.cluster_id)

    tell("deploying the service to the emulator: sls deploy")
    account.deploy(supervisor, prometheus_url=addresses.prometheus_url)
    functions = account.functions()
    parameter, table = _named(functions[0].environment, "ALERT_TOKEN_PARAMETER", "STATE_TABLE")
    token = account.create_webhook_token(parameter)

    tell("serving the functions: serverless-offline")
    env = aws_environment(emulator)
    served = start_functions(
        supervisor,
        functions,
        unpack_code=account.unpack_code,
        folder=folder / "service",
        env=env,
        overrides={"POLICY_FILE": str(settings.policy_path.resolve())},
    )
    cluster = ClusterClient(emulator.cluster_url)
    if settings.lifecycle_events:
        cluster.send_events_to(served.invoke_url("lifecycle"))

    tell(f"starting {programs.alertmanager.title} and {programs.prometheus.title}")
    start_monitors(
        supervisor,
        programs,
        addresses,
        policy=policy,
        cluster_id=settings.cluster_id,
        cluster_url=emulator.cluster_url,
        webhook_url=served.webhook_url,
        webhook_token=token,
        folder=folder / "monitoring",
        env=plain_environment(),
    )
    return LocalStack(
        settings=settings,
        policy=policy,
        supervisor=supervisor,
        folder=folder,
        emulator=emulator,
        account=account,
        cluster=cluster,
        functions=served,
        programs=programs,
        addresses=addresses,
        state_table=table,
        webhook_token=token,
    )


def _start_emulator(settings: StackSettings, supervisor: Supervisor, folder: Path) -> Ready:
    ready_path = folder / "emulator.ready"
    command = [sys.executable, "-m", "autoscaler.simulator.emulator.emulator", "--cluster", settings.cluster_id]
    command += ["--static-workers", str(settings.static_workers)]
    command += ["--boot-s", str(settings.boot_s), "--ready-s", str(settings.ready_s), "--monitor-grace-s", "10"]
    if settings.recorder:
        command += ["--policy", str(settings.policy_path.resolve())]
    running = supervisor.start("emulator", command, env=plain_environment(), stdout_path=ready_path)
    supervisor.wait_ready(running, lambda: ready_path.read_bytes().endswith(b"}\n"), timeout_s=EMULATOR_TIMEOUT_S)
    return msgspec.json.decode(ready_path.read_bytes(), type=Ready)


def _keep_logs(folder: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for path in (*folder.glob("*.log"), *folder.glob("*.out"), *folder.glob("service/*.jsonl")):
        shutil.copy(path, target / path.name)


def _named(environment: Any, *names: str) -> tuple[str, ...]:
    missing = [name for name in names if not environment.get(name)]
    if missing:
        raise StackError(f"The deployed functions have no {', '.join(missing)} in their environment.")
    return tuple(environment[name] for name in names)


class Sweeper:
    """Invokes the sweep at an interval, in a thread, while the `with` block lasts."""

    def __init__(self, stack: LocalStack, interval_s: float) -> None:
        self._stack = stack
        self._interval_s = interval_s
        self._ended = threading.Event()
        self._working = threading.Event()
        self._working.set()
        self._thread = threading.Thread(target=self._run, name="sweeper", daemon=True)
        self.failure: StackError | None = None
        """Why it stopped by itself, if it did."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._ended.set()
        self._thread.join(timeout=2)

    def pause(self) -> None:
        """Start no further sweep until `resume`; one that runs goes on."""
        self._working.clear()

    def resume(self) -> None:
        """Sweep again, now and at the interval."""
        self._working.set()

    def _run(self) -> None:
        while not self._ended.is_set():
            if not self._working.wait(timeout=0.1):
                continue
            try:
                self._stack.sweep()  # its answer is in the functions' journal
            except StackError as error:
                if not self._ended.is_set():
                    self.failure = error
                return
            self._ended.wait(self._interval_s)
