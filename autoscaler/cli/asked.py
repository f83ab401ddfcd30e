"""Asks the deployed function: its policy, code, network and roles are the real ones, and nothing is changed there.

The caller needs lambda:InvokeFunction on it and nothing else. Sources: Lambda API reference, Invoke (`FunctionError`,
and its error codes); AWS General Reference, "Common errors" (what expired or unknown credentials are answered with).
"""

import json
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, NoRegionError, ReadTimeoutError
from botocore.parsers import ResponseParserError

from autoscaler.aws.failures import error_code, error_message, in_one_line
from autoscaler.cli.ending import FAILED, end, in_a_sentence, told
from autoscaler.cli.target import Target

_EXPIRED: Final = frozenset({"ExpiredToken", "ExpiredTokenException", "RequestExpired"})
_UNKNOWN_CREDENTIALS: Final = frozenset(
    {"InvalidClientTokenId", "UnrecognizedClientException", "InvalidSignatureException", "SignatureDoesNotMatch"}
)
_DENIED: Final = frozenset({"AccessDenied", "AccessDeniedException"})
ANSWERS_WITHIN_S: Final = 35.0
"""A function of the service is killed at its own time-out (serverless.yml), which is shorter."""
_LONGEST_TOLD: Final = 300
"""Characters of what a function, or whatever stands in its place, answered."""


class NotAnswered(Exception):
    """The deployed function was not reached, or did not answer; the message is one sentence with what to do."""


def ask(target: Target, question: str, **arguments: Any) -> dict[str, Any]:
    """The answer of the deployed sweep function; ends the command with one sentence where there is none."""
    with told():
        try:
            return answer_of(target, question, **arguments)
        except NotAnswered as error:
            end(str(error), FAILED)


def answer_of(target: Target, question: str, **arguments: Any) -> dict[str, Any]:
    """The answer of the deployed sweep function. Raises NotAnswered, StackUnavailable."""
    name = target.function("sweep")
    event = json.dumps({"ask": {"question": question, **arguments}}).encode()
    try:
        response = target.clients.client("lambda", ANSWERS_WITHIN_S).invoke(FunctionName=name, Payload=event)
        payload = response["Payload"].read()
    except (BotoCoreError, ClientError, ResponseParserError) as error:
        raise NotAnswered(_not_reached(error, name)) from error
    return _answer(payload, name, failed=bool(response.get("FunctionError")))


def _not_reached(error: Exception, name: str) -> str:
    if isinstance(error, ClientError):
        return _refused(error, name)
    if isinstance(error, NoCredentialsError):
        return "No AWS credentials are found: `aws sso login` or `--profile` gives some."
    if isinstance(error, NoRegionError):
        return "No AWS region is known: give --region (or AWS_REGION)."
    if isinstance(error, ReadTimeoutError):
        return f"The function {name} did not answer in time: ask again, and see its log if it stays so."
    if isinstance(error, ResponseParserError):
        return f"What answered in the place of Lambda is not AWS: look for a proxy between here and {name}."
    return in_a_sentence(f"the function {name} cannot be reached: {in_one_line(str(error))}")


def _answer(payload: bytes, name: str, *, failed: bool) -> dict[str, Any]:
    try:
        found = json.loads(payload)
    except ValueError:
        found = None
    if failed:
        said = " ".join(str(found.get(field, "")) for field in ("errorType", "errorMessage")) if found else ""
        why = in_one_line(said)[:_LONGEST_TOLD] or "it says not why"
        raise NotAnswered(in_a_sentence(f"the function {name} failed: {why}; its log says more"))
    if not isinstance(found, dict):
        said = in_one_line(payload.decode(errors="replace"))[:_LONGEST_TOLD]
        raise NotAnswered(
            in_a_sentence(f"what answered in the place of {name} is not it, or a proxy changed it: {said!r}")
        )
    if "problem" in found:
        raise NotAnswered(in_a_sentence(str(found["problem"])))
    if not isinstance(found.get("answer"), dict):
        raise NotAnswered(f"The function {name} is of a version that answers no questions: deploy it again.")
    answer: dict[str, Any] = found["answer"]
    return answer


def _refused(error: ClientError, name: str) -> str:
    code, said = error_code(error), error_message(error)
    if code in _DENIED:
        return f"You may not ask {name}: lambda:InvokeFunction on it is all that is needed ({said})."
    if code == "ResourceNotFoundException":
        return f"There is no function {name} in this account and region: check the stage, the region and the profile."
    if code == "TooManyRequestsException":
        return f"{name} is throttled ({said}): its reserved concurrency, or the account's, is in use; ask again soon."
    if code in _EXPIRED:
        return f"Your AWS credentials have expired ({code}): sign in again, `aws sso login` for example."
    if code in _UNKNOWN_CREDENTIALS:
        return f"AWS does not know these credentials ({code}): check the profile and its keys."
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if not code or code == str(status):
        return f"What answered in the place of Lambda is not AWS (status {status}): look for a proxy before {name}."
    return in_a_sentence(f"AWS refused to ask {name}: {code}: {said or 'no message'}")
