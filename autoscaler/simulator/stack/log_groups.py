"""What Lambda does with a function's output: its JSON lines go to the function's log group, here the emulator's.

serverless-offline prints the lines of all functions into one file; which function said one, its trigger tells.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from autoscaler.simulator.stack.cloud import SERVICE, STAGE, Account

FUNCTION_OF: Final[Mapping[str, str]] = {"sweep": "sweep", "alert": "alerts", "lifecycle": "lifecycle"}
STREAM: Final = "local"


class LogGroups:
    """Copies what was printed since the last call; one for a stack."""

    def __init__(self, account: Account, printed: Path) -> None:
        self._logs = account.client("logs")
        self._printed = printed
        self._offset = 0
        self._streams: set[str] = set()

    def copy(self) -> int:
        """Put new lines into their groups; returns how many."""
        batches: dict[str, list[dict[str, Any]]] = {}
        for line in self._news():
            function = FUNCTION_OF.get(str(_fields(line).get("trigger_kind")))
            if function is not None:
                batches.setdefault(function, []).append({"timestamp": int(time.time() * 1000), "message": line})
        for function, events in batches.items():
            group = f"/aws/lambda/{SERVICE}-{STAGE}-{function}"
            self._stream(group)
            self._logs.put_log_events(logGroupName=group, logStreamName=STREAM, logEvents=events)
        return sum(map(len, batches.values()))

    def _news(self) -> list[str]:
        if not self._printed.exists():
            return []
        with self._printed.open("rb") as file:
            file.seek(self._offset)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        return whole.decode(errors="replace").splitlines()

    def _stream(self, group: str) -> None:
        if group not in self._streams:
            self._logs.create_log_stream(logGroupName=group, logStreamName=STREAM)
            self._streams.add(group)


def _fields(line: str) -> Mapping[str, Any]:
    try:
        found = msgspec.json.decode(line)
    except msgspec.DecodeError:  # the framework's own words
        return {}
    return found if isinstance(found, dict) else {}
