"""SSM Run Command: the `NodeCommands` port."""

import time
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Final

import msgspec

from autoscaler.aws.clients import Clients
from autoscaler.aws.failures import in_one_line, told_as
from autoscaler.model import UNKNOWN_COMMAND_RULE, CommandOutcome, CommandResult, Inspection, NodeCommand, Verb
from autoscaler.ports import CommandsUnavailable

if TYPE_CHECKING:
    from mypy_boto3_ssm.type_defs import GetCommandInvocationResultTypeDef

DELIVERY_TIMEOUT_S: Final = 60
"""After it SSM gives up handing the command over, and another server is tried."""
SETTLE_S: Final = 30.0
"""GetCommandInvocation may not know a command for some seconds after SendCommand returned its id."""
COMMENT_LENGTH: Final = 100
MESSAGE_LENGTH: Final = 500

OUTCOME_BY_EXIT_CODE: Final = {
    10: CommandOutcome.REFUSED,
    11: CommandOutcome.BLOCKED_BY_BUDGET,
    12: CommandOutcome.TIMED_OUT,
    13: CommandOutcome.FENCED_OFF,
    14: CommandOutcome.NO_SUCH_NODE,
    15: CommandOutcome.API_UNREACHABLE,
}
"""The script's exit codes (docs/node-commands.md)."""

UNDER_WAY: Final = frozenset({"Pending", "InProgress", "Delayed", "Cancelling"})
NEVER_RAN: Final = frozenset(
    {"DeliveryTimedOut", "Undeliverable", "Terminated", "InvalidPlatform", "AccessDenied", "RateExceeded"}
)
"""Detailed statuses without a run. Source: Systems Manager user guide, "Understanding command statuses"."""


class ResultLine(msgspec.Struct, frozen=True, kw_only=True):
    """The one line that the script prints (docs/node-commands.md)."""

    operation: str
    verb: str
    outcome: CommandOutcome
    rule: str = ""
    message: str = ""
    evicted_pods: int = 0
    inspection: Inspection | None = None
    rules: str = ""


class SsmNodeCommands:
    """Sends one document to one server, and asks later how it went."""

    def __init__(
        self, clients: Clients, *, document_name: str, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._clients = clients
        self._document_name = document_name
        self._monotonic = monotonic
        self._sent_at: dict[str, float] = {}

    def send(self, command: NodeCommand, server_id: str) -> str:
        """Hand the command to exactly this server; returns the command id. Raises CommandsUnavailable."""
        with told_as(CommandsUnavailable, f"send {command.verb} of {_subject(command)} to {server_id}"):
            answer = self._clients.ssm().send_command(
                InstanceIds=[server_id],
                DocumentName=self._document_name,
                TimeoutSeconds=DELIVERY_TIMEOUT_S,
                Comment=f"{command.verb} {_subject(command)} {command.operation_id}"[:COMMENT_LENGTH],
                Parameters={
                    "verb": [str(command.verb)],
                    # The document's own defaults are empty.
                    **({"node": [command.node_name]} if command.node_name else {}),
                    **({"providerId": [command.provider_id]} if command.provider_id else {}),
                    "operationId": [command.operation_id],
                    "fence": [str(command.fence)],
                    "notAfter": [str(command.not_after_s)],
                    "timeoutSeconds": [str(command.timeout_s)],
                    "graceSeconds": [str(command.grace_s)],
                    "reclaim": ["true" if command.reclaim else "false"],
                },
            )
        command_id = answer.get("Command", {}).get("CommandId", "")
        if not command_id:
            raise CommandsUnavailable("SSM accepted the command and named no command id", effect_unknown=True)
        self._sent_at = {command_id: self._monotonic()} | dict(list(self._sent_at.items())[:99])
        return command_id

    def result(self, command_id: str, server_id: str) -> CommandResult:
        """Return what is known of it, never waiting. Raises CommandsUnavailable.

        A command that SSM does not know is UNDELIVERED with rule `unknown_to_ssm`, unless this process sent it less
        than 30 s ago: then SSM has not caught up, and it is RUNNING.
        """
        try:
            with told_as(CommandsUnavailable, f"ask for command {command_id}"):
                answer = self._clients.ssm().get_command_invocation(CommandId=command_id, InstanceId=server_id)
        except CommandsUnavailable as error:
            if error.code not in {"InvocationDoesNotExist", "InvalidCommandId"}:
                raise
            sent_at = self._sent_at.get(command_id)
            if sent_at is not None and self._monotonic() - sent_at < SETTLE_S:
                return CommandResult(outcome=CommandOutcome.RUNNING)
            return CommandResult(
                outcome=CommandOutcome.UNDELIVERED,
                rule=UNKNOWN_COMMAND_RULE,
                message=f"SSM knows no command {command_id} on {server_id}",
            )
        return msgspec.structs.replace(_read(answer), ended_at_s=_moment(str(answer.get("ExecutionEndDateTime", ""))))


def _subject(command: NodeCommand) -> str:
    return command.node_name or command.provider_id or "the cluster"


def _moment(text: str) -> int | None:
    """Epoch seconds of SSM's ISO 8601 time; None for the empty text of a command that runs, and for what is none."""
    try:
        return int(datetime.fromisoformat(text).timestamp())
    except ValueError:
        return None


def _read(answer: "GetCommandInvocationResultTypeDef") -> CommandResult:
    # The API writes "DeliveryTimedOut" and "Delivery Timed Out" for the same thing in different places.
    status = str(answer.get("Status", ""))
    details = str(answer.get("StatusDetails", "")).replace(" ", "")
    if details in NEVER_RAN:
        return CommandResult(outcome=CommandOutcome.UNDELIVERED, rule=details, message=f"SSM says {details}")
    if status.replace(" ", "") in UNDER_WAY:
        return CommandResult(outcome=CommandOutcome.RUNNING)
    if status == "TimedOut":
        # Not the drain's own word: what stood in its way, and how far it came, nobody knows.
        return CommandResult(
            outcome=CommandOutcome.API_UNREACHABLE,
            rule=details,
            message="SSM stopped the script at its execution time-out",
        )
    line, problem = _result_line(str(answer.get("StandardOutputContent", "")))
    if status == "Success":
        return _success(line, problem)
    outcome = CommandOutcome.FAILED
    if status == "Failed":
        outcome = OUTCOME_BY_EXIT_CODE.get(answer.get("ResponseCode", -1), CommandOutcome.FAILED)
    if line is None:
        said = in_one_line(str(answer.get("StandardErrorContent", ""))) or problem
        return CommandResult(outcome=outcome, message=f"{status or 'no status'}: {said}"[:MESSAGE_LENGTH])
    return CommandResult(
        outcome=outcome, rule=line.rule, message=line.message[:MESSAGE_LENGTH], evicted_pods=line.evicted_pods
    )


def _success(line: ResultLine | None, problem: str) -> CommandResult:
    """Only a line that says so is a success: a terminate follows from it."""
    if line is None:
        return CommandResult(outcome=CommandOutcome.FAILED, message=f"the script ended well but {problem}")
    if line.outcome is not CommandOutcome.SUCCEEDED:
        return CommandResult(
            outcome=CommandOutcome.FAILED,
            rule=line.rule,
            message=f"the script ended well but its result line says {line.outcome}: {line.message}"[:MESSAGE_LENGTH],
            evicted_pods=line.evicted_pods,
        )
    if line.verb == Verb.INSPECT and line.inspection is None:
        return CommandResult(outcome=CommandOutcome.FAILED, message="the inspection ended well and shows nothing")
    if line.verb == Verb.RULES and not line.rules:
        return CommandResult(outcome=CommandOutcome.FAILED, message="the question for rules ended well and tells none")
    return CommandResult(
        outcome=CommandOutcome.SUCCEEDED,
        rule=line.rule,
        message=line.message[:MESSAGE_LENGTH],
        evicted_pods=line.evicted_pods,
        inspection=line.inspection,
        rules=line.rules,
    )


def _result_line(output: str) -> tuple[ResultLine | None, str]:
    """The last line of the output that is not empty, or what is wrong with it."""
    lines = [line for line in output.splitlines() if line.strip()]
    if not lines:
        return None, "its output holds no result line"
    try:
        return msgspec.json.decode(lines[-1], type=ResultLine), ""
    except msgspec.MsgspecError as error:
        return None, f"its result line does not read: {error}"
