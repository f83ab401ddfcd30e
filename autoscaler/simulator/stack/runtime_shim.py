"""What serverless-offline's Python runner lacks of Lambda's runtime; it stands between the runner and the real handler.

The runner gives every request the same id and six seconds, and a handler that raises ends its process without an
answer. Here each invocation has its own id and the function's own time-out, and an error is answered as Lambda's
runtime answers it (AWS Lambda Developer Guide, "Lambda function errors in Python").
"""

import importlib
import json
import os
import sys
import time
import traceback
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

Handler = Callable[[dict[str, Any], object], Any]

HANDLER_VARIABLE: Final = "EMULATED_HANDLER"
TIMEOUT_VARIABLE: Final = "EMULATED_TIMEOUT_S"
JOURNAL_VARIABLE: Final = "EMULATED_JOURNAL"


class Context:
    """The part of Lambda's context object that handlers and Powertools use."""

    def __init__(self, name: str, timeout_s: float) -> None:
        self.function_name = name
        self.function_version = "$LATEST"
        self.invoked_function_arn = f"arn:aws:lambda:{os.environ['AWS_REGION']}:123456789012:function:{name}"
        self.memory_limit_in_mb = os.environ.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "512")
        self.aws_request_id = str(uuid.uuid4())
        self.log_group_name = f"/aws/lambda/{name}"
        self.log_stream_name = "local"
        self._ends_at_s = time.monotonic() + timeout_s

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until the function's time-out."""
        return max(0, int((self._ends_at_s - time.monotonic()) * 1000))


def load(path: str) -> Handler:
    """Import `package.module.function`; one that cannot be imported fails at each call, as on Lambda."""
    module, _, name = path.rpartition(".")
    try:
        found: Handler = getattr(importlib.import_module(module), name)
    except Exception as error:  # noqa: BLE001 - whatever a module does when it is imported
        failure = error

        def fail(_event: dict[str, Any], _context: object) -> Any:
            raise failure

        return fail
    return found


# Loaded with the module, as Lambda loads it in its init phase.
_HANDLER: Final[Handler | None] = load(os.environ[HANDLER_VARIABLE]) if HANDLER_VARIABLE in os.environ else None


def handler(event: dict[str, Any], _context: object) -> Any:
    """Run the function that the environment names, and note the invocation in the journal."""
    if _HANDLER is None:
        raise RuntimeError(f"{HANDLER_VARIABLE} is not set: it names the handler to run, as in handlers.sweep.handler")
    context = Context(os.environ["AWS_LAMBDA_FUNCTION_NAME"], float(os.environ[TIMEOUT_VARIABLE]))
    started_at_s = time.time()
    try:
        result = _HANDLER(event, context)
    except Exception as error:  # noqa: BLE001 - what Lambda's runtime does with every error
        traceback.print_exc()
        sys.stderr.flush()
        result = _failure(event, error)
    _note(context, started_at_s, event, result)
    return result


def _failure(event: dict[str, Any], error: Exception) -> dict[str, Any]:
    if "requestContext" in event:  # API Gateway's answer to a failed function
        return {"statusCode": 500, "body": '{"message":"Internal Server Error"}'}
    return {
        "errorMessage": str(error),
        "errorType": type(error).__name__,
        "stackTrace": traceback.format_tb(error.__traceback__),
    }


def _note(context: Context, started_at_s: float, event: dict[str, Any], result: Any) -> None:
    line = json.dumps(
        {
            "function": context.function_name,
            "request_id": context.aws_request_id,
            "started_at_s": started_at_s,
            "ended_at_s": time.time(),
            "event": event,
            "result": result,
        }
    )
    # One write of one line: processes that append at the same time do not mix their lines.
    with Path(os.environ[JOURNAL_VARIABLE]).open("ab", buffering=0) as journal:
        journal.write(line.encode() + b"\n")
