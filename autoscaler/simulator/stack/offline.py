"""The deployed functions, run by serverless-offline: the webhook's HTTP API and Lambda's invoke address.

serverless-offline does not resolve references in environment values (`!Ref` arrives as `[object Object]`), so it gets a
service folder of its own, generated from what CloudFormation made of the functions, with the code that was deployed.
"""

import json
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import requests

from autoscaler.simulator.stack.cloud import SERVICE, STAGE, DeployedFunction, serverless_program
from autoscaler.simulator.stack.processes import Running, StackError, Supervisor, free_port, repository_root
from autoscaler.simulator.stack.runtime_shim import HANDLER_VARIABLE, JOURNAL_VARIABLE, TIMEOUT_VARIABLE

SHIM: Final = Path(__file__).with_name("runtime_shim.py")
START_TIMEOUT_S: Final = 60.0


@dataclass(frozen=True, kw_only=True)
class LambdaError:
    """A function ended with an error."""

    kind: str
    message: str


class Functions:
    """The running functions."""

    def __init__(
        self,
        running: Running,
        *,
        http_port: int,
        lambda_port: int,
        functions: Sequence[DeployedFunction],
        journal_path: Path,
    ) -> None:
        self.running = running
        self.journal_path = journal_path
        self.webhook_url = f"http://127.0.0.1:{http_port}/alerts"
        self._names = {function.key: function.name for function in functions}
        self._timeouts = {function.key: function.timeout_s for function in functions}
        self.lambda_url = f"http://127.0.0.1:{lambda_port}"
        """Where Lambda's Invoke is answered."""

    def invoke_url(self, key: str) -> str:
        """Lambda's invoke address of a function."""
        return f"{self.lambda_url}/2015-03-31/functions/{self._names[key]}/invocations"

    def invoke(self, key: str, event: Mapping[str, Any]) -> dict[str, Any] | LambdaError:
        """Invoke and wait. Raises StackError when there is no answer at all."""
        try:
            answer = requests.post(self.invoke_url(key), json=event, timeout=self._timeouts[key] + 5)
            answer.raise_for_status()
            document: dict[str, Any] = answer.json()
        except (requests.RequestException, ValueError) as error:
            raise StackError(f"The function {key} gave no answer: {error}.\n{self.running.last_lines()}") from error
        if "errorMessage" in document:
            return LambdaError(kind=document.get("errorType", ""), message=document["errorMessage"])
        return document


def start_functions(
    supervisor: Supervisor,
    functions: Sequence[DeployedFunction],
    *,
    unpack_code: Callable[[Path], None],
    folder: Path,
    env: Mapping[str, str],
    overrides: Mapping[str, str],
) -> Functions:
    """Start serverless-offline with the functions and wait until it answers. Raises StackError.

    `unpack_code` puts `autoscaler/` and `handlers/` into a folder; `overrides` are values that the local stack needs
    otherwise than a deployment does.
    """
    missing = {"alerts", "sweep", "lifecycle"} - {function.key for function in functions}
    if missing:
        raise StackError(f"sls deploy made no function {', '.join(sorted(missing))}: see sls-deploy.log.")
    folder.mkdir()
    unpack_code(folder)
    shutil.copy(SHIM, folder / SHIM.name)
    (folder / "node_modules").symlink_to(repository_root() / "node_modules")
    journal_path = folder / "invocations.jsonl"
    literal = {**overrides, JOURNAL_VARIABLE: str(journal_path)}
    (folder / "serverless.json").write_text(json.dumps(_service(functions, literal, env["AWS_REGION"]), indent=2))
    http_port, lambda_port = free_port(), free_port()
    command = [serverless_program(), "offline", "start", "--stage", STAGE, "--host", "127.0.0.1", "--noSponsor"]
    command += ["--httpPort", str(http_port), "--lambdaPort", str(lambda_port), "--terminateIdleLambdaTime", "3600"]
    python = {"VIRTUAL_ENV": sys.prefix, "PYTHONDONTWRITEBYTECODE": "1"}
    running = supervisor.start("serverless-offline", command, env={**env, **python}, cwd=folder)
    supervisor.wait_ready(running, lambda: _listens(http_port) and _listens(lambda_port), timeout_s=START_TIMEOUT_S)
    return Functions(
        running, http_port=http_port, lambda_port=lambda_port, functions=functions, journal_path=journal_path
    )


def _service(functions: Sequence[DeployedFunction], overrides: Mapping[str, str], region: str) -> dict[str, Any]:
    """The generated service. Its schedule is left out: who starts the stack drives the sweep."""
    definitions = {}
    for function in functions:
        literal = {HANDLER_VARIABLE: function.handler, TIMEOUT_VARIABLE: str(function.timeout_s)}
        definitions[function.key] = {
            "name": function.name,
            "handler": f"{SHIM.stem}.handler",
            "timeout": function.timeout_s,
            "memorySize": function.memory_mb,
            "environment": {**function.environment, **overrides, **literal},
            "events": [{"httpApi": "POST /alerts"}] if function.key == "alerts" else [],
        }
    return {
        "service": SERVICE,
        "provider": {"name": "aws", "runtime": "python3.13", "stage": STAGE, "region": region},
        "plugins": ["serverless-offline"],
        "functions": definitions,
    }


def _listens(port: int) -> bool:
    try:
        requests.get(f"http://127.0.0.1:{port}/", timeout=2)
    except requests.RequestException:
        return False
    return True
