"""moto as this project needs it: two places where it differs from AWS are mended, and every call is noted.

* CloudFormation: moto refuses a template for which cfn-lint has a mere warning (W3005, from the Serverless Framework's
  own output); AWS does not. The generated template is linted by the project's tests instead.
* SSM: moto reports every command as `Success` with empty output at once, and sends one that names instances to all
  others as well. Here the simulated server runs it.
"""

import datetime as dt
import io
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol, cast

import moto.cloudformation.models
import moto.ssm.models
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from moto.ssm.exceptions import SSMException

OWN_AGENT: Final = "k3s-autoscaler-emulator"
"""In the user agent of the emulator's own calls, which are not noted."""
WsgiApp = Callable[[dict[str, Any], Any], Iterable[bytes]]


@dataclass(frozen=True, kw_only=True)
class ShellResult:
    """What SSM knows of one run of the document on one instance."""

    status: str
    """`Pending`, `InProgress`, `Success`, `Failed` or `TimedOut`, as GetCommandInvocation has it."""
    exit_code: int
    """-1 while it runs."""
    output: str


class CommandRunner(Protocol):
    """The simulated servers."""

    def start_command(
        self, *, command_id: str, document: str, instance_id: str, parameters: Mapping[str, list[str]]
    ) -> None:
        """Begin to run the document there. Raises KeyError for an instance that takes no commands."""
        ...

    def command_result(self, command_id: str) -> ShellResult | None:
        """Return what is known; None for a command of another document."""
        ...


def mend_cloudformation() -> None:
    """Let templates with lint warnings through."""
    setattr(moto.cloudformation.models, "validate_template_cfn_lint", _no_findings)  # noqa: B010 - not exported to mypy


def _no_findings(_template: str) -> list[Any]:
    return []


def mend_run_command(runner: CommandRunner) -> None:
    """Make SendCommand start the command on the simulated server, and GetCommandInvocation tell how far it is."""

    class SimulatedCommand(moto.ssm.models.Command):
        def __init__(self, **arguments: Any) -> None:
            super().__init__(**arguments)
            for instance_id in self.instance_ids:
                try:
                    runner.start_command(
                        command_id=self.command_id,
                        document=self.document_name or "",
                        instance_id=instance_id,
                        parameters=self.parameters,
                    )
                except KeyError as error:
                    raise SSMException(
                        "InvalidInstanceId", f"Instances {instance_id} not in a valid state for account"
                    ) from error

        def _get_instance_ids_from_targets(self) -> list[str]:
            # moto takes no target at all for every instance that there is.
            return super()._get_instance_ids_from_targets() if self.targets else []

        def get_invocation(self, instance_id: str, plugin_name: str | None) -> dict[str, Any]:
            told: dict[str, Any] = dict(super().get_invocation(instance_id, plugin_name))
            result = runner.command_result(self.command_id)
            if result is not None:
                told |= {
                    "Status": result.status,
                    "StatusDetails": result.status,
                    "ResponseCode": result.exit_code,
                    "StandardOutputContent": result.output,
                }
            return told

    moto.ssm.models.Command = SimulatedCommand  # type: ignore[misc,assignment] # the backend looks the class up by this name


@dataclass(frozen=True, kw_only=True)
class Call:
    """One AWS call as it arrived."""

    at_s: float
    service: str
    operation: str


class CallLog:
    """Every call that reached the emulated AWS, in order."""

    _WORTH_KEEPING: Final = 50_000

    def __init__(self) -> None:
        self._calls: list[Call] = []
        self._lock = threading.Lock()

    def note(self, call: Call) -> None:
        """Append one; the oldest are dropped beyond what a long run needs."""
        with self._lock:
            self._calls.append(call)
            del self._calls[: -self._WORTH_KEEPING]

    def since(self, at_s: float, operation: str | None = None) -> list[Call]:
        """Return the calls that arrived at or after a moment, of one operation or of all."""
        with self._lock:
            return [call for call in self._calls if call.at_s >= at_s and operation in {None, call.operation}]


def aws_application(log: CallLog) -> WsgiApp:
    """Return moto's server as a WSGI application that notes each call when it arrives."""
    moto_app = cast("WsgiApp", DomainDispatcherApplication(create_backend_app))

    def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        at_s = time.time()
        if OWN_AGENT not in str(environ.get("HTTP_USER_AGENT", "")):
            log.note(Call(at_s=at_s, service=_service(environ), operation=_operation(environ)))
        return moto_app(environ, start_response)

    return application


def _service(environ: Mapping[str, Any]) -> str:
    """Return the service of the signature's scope: `Credential=<key>/<date>/<region>/<service>/aws4_request`."""
    scope = str(environ.get("HTTP_AUTHORIZATION", "")).partition("Credential=")[2].split(",")[0].split("/")
    return scope[3] if len(scope) > 3 else "unsigned"


def _operation(environ: dict[str, Any]) -> str:
    """Return the operation's name: of the JSON protocols from a header, of the query protocols from the body."""
    target = str(environ.get("HTTP_X_AMZ_TARGET", ""))
    if target:
        return target.rpartition(".")[2]
    if str(environ.get("CONTENT_TYPE", "")).startswith("application/x-www-form-urlencoded"):
        body: bytes = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        return dict(urllib.parse.parse_qsl(body.decode())).get("Action", "")
    return f"{environ.get('REQUEST_METHOD', '')} {environ.get('PATH_INFO', '')}"


def iso_time(at_s: float) -> str:
    """Epoch seconds as AWS writes them."""
    return dt.datetime.fromtimestamp(at_s, tz=dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
