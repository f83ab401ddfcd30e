"""What the functions were asked and what they answered: one line for each invocation, written by `runtime_shim`."""

import base64
from pathlib import Path
from typing import Any

import msgspec


class Invocation(msgspec.Struct, frozen=True, kw_only=True):
    """One invocation of one function."""

    function: str
    request_id: str
    started_at_s: float
    ended_at_s: float
    event: dict[str, Any]
    result: Any

    @property
    def key(self) -> str:
        """`alerts`, `sweep` or `lifecycle`."""
        return self.function.rpartition("-")[2]

    @property
    def status(self) -> int:
        """The HTTP status of a webhook's answer; 200 for another function's document, 500 for its error."""
        if isinstance(self.result, dict) and "statusCode" in self.result:
            return int(self.result["statusCode"])
        return 500 if isinstance(self.result, dict) and "errorMessage" in self.result else 200

    @property
    def document(self) -> dict[str, Any] | None:
        """The decision document that it answered with; None for a refusal or an error."""
        found = self.result
        if self.key == "alerts" and isinstance(found, dict):
            try:
                found = msgspec.json.decode(found.get("body") or "null")
            except msgspec.DecodeError:
                return None
        return found if isinstance(found, dict) and "decision_id" in found else None

    @property
    def error(self) -> str:
        """Why there is no document; empty where there is one."""
        if self.document is not None:
            return ""
        return str(self.result.get("errorMessage") or self.result.get("body") if isinstance(self.result, dict) else "")

    @property
    def alert_names(self) -> tuple[str, ...]:
        """Which alerts a webhook brought; none for one that was refused, whatever its body holds."""
        if self.key != "alerts" or 400 <= self.status < 500:
            return ()
        return tuple(alert["labels"]["alertname"] for alert in self.webhook().get("alerts", ()))

    def webhook(self) -> dict[str, Any]:
        """The body that Alertmanager sent. Raises msgspec.DecodeError for one that is not JSON."""
        body = self.event.get("body") or "null"
        raw = base64.b64decode(body) if self.event.get("isBase64Encoded") else body
        found = msgspec.json.decode(raw)
        return found if isinstance(found, dict) else {}


class Journal:
    """Reads what was appended since the last look."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def news(self) -> list[Invocation]:
        """Invocations that ended since the last call, in the order of their end."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self._offset)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        return [msgspec.json.decode(line, type=Invocation) for line in whole.splitlines()]
