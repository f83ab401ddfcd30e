"""Lambda's Invoke over HTTP, on this machine: what stands behind it is the real handler, or what a test says.

Source of the form: Lambda API reference, Invoke (`POST /2015-03-31/functions/<name>/invocations`, and the header
`X-Amz-Function-Error`).
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import unquote

from tests.aws.loopback import Answer, Server, reply, serving

Function = Callable[[dict[str, Any]], Any]


@contextmanager
def lambda_serving(functions: dict[str, Function]) -> Iterator[Server]:
    """Lambda with these functions; one that raises fails as Lambda tells it."""

    def answer(handler: BaseHTTPRequestHandler, body: bytes) -> None:
        name = unquote(handler.path).split("/")[3]
        if name not in functions:
            refuse(404, "ResourceNotFoundException", f"Function not found: {name}")(handler, body)
            return
        try:
            told = functions[name](json.loads(body))
        except Exception as error:  # noqa: BLE001 - whatever the function raises
            failure = {"errorMessage": str(error), "errorType": type(error).__name__, "stackTrace": []}
            reply(200, json.dumps(failure), X_Amz_Function_Error="Unhandled")(handler, body)
            return
        reply(200, json.dumps(told))(handler, body)

    with serving(answer) as server:
        yield server


def refuse(status: int, code: str, message: str) -> Answer:
    """An error as Lambda's REST interface gives it."""
    return reply(status, json.dumps({"Type": "User", "message": message}), x_amzn_ErrorType=code)
