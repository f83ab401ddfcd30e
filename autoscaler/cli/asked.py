"""Asks the deployed function: its policy, code, network and roles are the real ones, and nothing is changed there.

The caller needs lambda:InvokeFunction on it and nothing else. Sources: Lambda API reference, Invoke (`FunctionError`,
and its error codes); AWS General Reference, "Common errors" (what expired or unknown credentials are answered with).
"""

import json
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, NoRegionError, ReadTimeoutError
from botocore.parsers import ResponseParserError

from autoscaler.aws.failures import error_code, error_message, in_one_line
from autoscaler.cli.ending import FAILED, end, in_a_sentence
from autoscaler.cli.target import Target
from autoscaler.ports import PortError

_EXPIRED: Final = frozenset({"ExpiredToken", "ExpiredTokenException", "RequestExpired"})
_UNKNOWN_CREDENTIALS: Final = frozenset(
    {"InvalidClientTokenId", "UnrecognizedClientException", "InvalidSignatureException", "SignatureDoesNotMatch"}
)
_DENIED: Final = frozenset({"AccessDenied", "AccessDeniedException"})
ANSWERS_WITHIN_S: Final = 35.0
"""A function of the service is killed at its own time-out (serverless.yml), which is shorter."""
_LONGEST_TOLD: Final = 300
"""Characters of what a function, or whatever stands in its place, answered."""


class Unanswered(Exception):
    """The function could not be asked, or is none that answers: one sentence."""


class CannotTell(Exception):
    """The function was asked and says why it cannot answer: one sentence."""


def ask(target: Target, question: str, **arguments: Any) -> dict[str, Any]:
    """The answer of the deployed sweep function; ends the command with one sentence where there is none."""
    try:
        return answered(target, question, **arguments)
    except Unanswered as error:
        end(str(error), FAILED)


def answered(target: Target, question: str, **arguments: Any) -> dict[str, Any]:
    """The same, raising Unanswered where nobody heard the question. What it cannot tell still ends the command."""
    try:
        return answer_of(target, question, **arguments)
    except CannotTell as error:
        end(str(error), FAILED)


def answer_of(target: Target, question: str, **arguments: Any) -> dict[str, Any]:
    """The same, ending nothing. Raises Unanswered, CannotTell."""
    try:
        name = target.function("sweep")
    except PortError as error:
        raise Unanswered(in_a_sentence(str(error))) from error
    event = json.dumps({"ask": {"question": question, **arguments}}).encode()
    try:
        response = target.clients.client("lambda", ANSWERS_WITHIN_S).invoke(FunctionName=name, Payload=event)
        payload = response["Payload"].read()
    except (ClientError, BotoCoreError, ResponseParserError) as error:
        raise Unanswered(in_a_sentence(_in_words(error, name))) from error
    found = _read(payload, name, failed=bool(response.get("FunctionError")))
    if "problem" in found:
        raise CannotTell(in_a_sentence(str(found["problem"])))
    if not isinstance(found.get("answer"), dict):
        raise Unanswered(f"The function {name} is of a version that answers no questions: deploy it again.")
    answer: dict[str, Any] = found["answer"]
    return answer


def _in_words(error: Exception, name: str) -> str:
    if isinstance(error, ClientError):
        return _refused(error, name)
    if isinstance(error, NoCredentialsError):
        return "No AWS credentials are found: `aws sso login` or `--profile` gives some"
    if isinstance(error, NoRegionError):
        return "No AWS region is known: give --region (or AWS_REGION)"
    if isinstance(error, ReadTimeoutError):
        return f"The function {name} did not answer in time: ask again, and see its log if it stays so"
    if isinstance(error, ResponseParserError):
        return f"What answered in the place of Lambda is not AWS: look for a proxy between here and {name}"
    return f"the function {name} cannot be reached: {in_one_line(str(error))}"


def _read(payload: bytes, name: str, *, failed: bool) -> dict[str, Any]:
    try:
        found = json.loads(payload)
    except ValueError:
        found = None
    if failed or (isinstance(found, dict) and "errorMessage" in found):
        told = found if isinstance(found, dict) else {}
        said = " ".join(str(told.get(field, "")) for field in ("errorType", "errorMessage")).strip()
        why = in_one_line(said)[:_LONGEST_TOLD] or "it says not why"
        raise Unanswered(in_a_sentence(f"the function {name} failed: {why}; its log says more"))
    if not isinstance(found, dict):
        said = in_one_line(payload.decode(errors="replace"))[:_LONGEST_TOLD]
        raise Unanswered(
            in_a_sentence(f"what answered in the place of {name} is not it, or a proxy changed it: {said!r}")
        )
    return found


def _refused(error: ClientError, name: str) -> str:
    code, said = error_code(error), error_message(error)
    if code in _DENIED:
        return f"You may not ask {name}: lambda:InvokeFunction on it is all that is needed ({said})."
    if code == "ResourceNotFoundException":
        return f"There is no function {name} in this account and region: check the stage, the region and the profile."
    if code == "TooManyRequestsException":
        return f"The function {name} is throttled ({said}): too many run at once; ask again soon."
    if code in _EXPIRED:
        return f"Your AWS credentials have expired ({code}): sign in again, `aws sso login` for example."
    if code in _UNKNOWN_CREDENTIALS:
        return f"AWS does not know these credentials ({code}): check the profile and its keys."
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if not code or code == str(status):
        return f"What answered in the place of Lambda is not AWS (status {status}): look for a proxy before {name}."
    return f"AWS refused to ask {name}: {code}: {said or 'no message'}"
