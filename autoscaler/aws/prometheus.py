"""Prometheus over HTTP: the `Metrics` port."""

import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final, NoReturn

import msgspec
import requests
import urllib3

from autoscaler.aws.calls import Calls
from autoscaler.aws.credential import parse_auth
from autoscaler.model import Sample
from autoscaler.ports import MetricsUnavailable, PortError
from autoscaler.redaction import Redaction

CONNECT_TIMEOUT_S: Final = 2.0
BODY_LIMIT_BYTES: Final = 32 * 1024 * 1024
CHUNK_BYTES: Final = 256 * 1024
QUOTE_LENGTH: Final = 200
WHOLE_OR_NOTHING: Final = {
    "dedup": "true",  # Thanos: the replicas of one Prometheus are one
    "partial_response": "false",  # Thanos: fail where a store does not answer
    "deny_partial_response": "1",  # VictoriaMetrics' cluster: the same
    "nocache": "1",  # VictoriaMetrics: as of now, not of -search.latencyOffset (30 s) ago
}
"""What the stores call it; each passes over the names that it does not know."""
_NO_LOSS: Final = "PromQL info: "
"""Advice of Prometheus before it had a field of its own (`infos`)."""


class _Vector(msgspec.Struct, rename="camel"):
    result_type: str
    result: msgspec.Raw = msgspec.Raw(b"")
    warnings: list[object] | None = None


class _Answer(msgspec.Struct, rename="camel"):
    status: str
    data: _Vector | None = None
    error_type: str = ""
    error: str = ""
    warnings: list[object] | None = None
    is_partial: bool = False


class Prometheus:
    """Instant queries to one address, each bounded in time and size.

    `read_auth` and `read_ca` return the text of their parameters; they are asked once, and again after a 401 or 403.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float,
        calls: Calls,
        read_auth: Callable[[], str] | None = None,
        read_ca: Callable[[], str] | None = None,
        redaction: Redaction | None = None,
        body_limit_bytes: int = BODY_LIMIT_BYTES,
    ) -> None:
        self._url = f"{url.rstrip('/')}/api/v1/query"
        self._timeout_s = timeout_s
        self._calls = calls
        self._read_auth = read_auth
        self._read_ca = read_ca
        self._redaction = redaction if redaction is not None else Redaction()
        self._body_limit_bytes = body_limit_bytes
        self._session: requests.Session | None = None

    def begin(self) -> None:
        """Start an invocation: connections that slept through a freeze are dropped, the session stays."""
        if self._session is not None:
            self._session.close()

    def query(self, promql: str, *, timeout_s: float | None = None) -> Sequence[Sample]:
        """Return the vector, in at most the shorter of both `timeout_s` altogether.

        Raises MetricsUnavailable, without any credential.
        """
        try:
            return self._query(promql, self._timeout_s if timeout_s is None else min(timeout_s, self._timeout_s))
        except MetricsUnavailable as error:
            # What stands before Prometheus may quote the header that it refused.
            told = self._redaction.clean(str(error))
            if told == str(error):
                raise
            raise MetricsUnavailable(told, code=error.code, effect_unknown=error.effect_unknown) from None

    def _query(self, promql: str, timeout_s: float) -> Sequence[Sample]:
        """Ask once.

        The time-outs of `requests` bound each read but neither name resolution nor a peer that drips bytes, so the
        exchange runs in a thread that is left behind when the time is over.
        """
        outcome: list[tuple[int, bytes] | Exception] = []
        deadline = time.monotonic() + timeout_s

        def exchange() -> None:
            try:
                outcome.append(self._exchange(promql, timeout_s, deadline))
            except Exception as error:  # noqa: BLE001 - carried to the caller's thread, told or raised there
                outcome.append(error)

        thread = threading.Thread(target=exchange, name="prometheus", daemon=True)
        thread.start()
        thread.join(timeout_s)
        if not outcome:
            self._session = None  # the thread may still use the old one
            raise MetricsUnavailable(self._too_late(timeout_s))
        if isinstance(outcome[0], Exception):
            self._tell(outcome[0], timeout_s)
        status, body = outcome[0]
        return self._samples(status, body)

    @property
    def _where(self) -> str:
        return f"Prometheus at {self._url}"

    def _too_late(self, timeout_s: float) -> str:
        return f"{self._where} did not answer within {timeout_s:g} s"

    def _exchange(self, promql: str, timeout_s: float, deadline: float) -> tuple[int, bytes]:
        session = self._session = self._session or self._new_session()
        self._calls.add("prometheus")
        with session.post(
            self._url,
            data={"query": promql, "timeout": f"{timeout_s:g}s", **WHOLE_OR_NOTHING},
            headers={"Accept": "application/json", "Accept-Encoding": "gzip"},
            timeout=(min(CONNECT_TIMEOUT_S, timeout_s), timeout_s),
            allow_redirects=False,
            stream=True,
        ) as response:
            if response.is_redirect:
                raise MetricsUnavailable(
                    f"{self._where} answered with a redirect, which is not followed: set PROMETHEUS_URL to the address "
                    "that answers itself"
                )
            return response.status_code, self._body(response, timeout_s, deadline)

    def _body(self, response: requests.Response, timeout_s: float, deadline: float) -> bytes:
        body = bytearray()
        # `read1` hands over what has come; `read` and `iter_content` would wait for a full block. What it unpacks at a
        # time is bounded too, so a small body that grows without end meets the limit.
        while chunk := response.raw.read1(CHUNK_BYTES, decode_content=True):
            body += chunk
            if len(body) > self._body_limit_bytes:
                raise MetricsUnavailable(f"{self._where} answered more than {self._body_limit_bytes} bytes")
            if time.monotonic() > deadline:
                raise MetricsUnavailable(self._too_late(timeout_s))
        return bytes(body)

    def _tell(self, error: Exception, timeout_s: float) -> NoReturn:
        if isinstance(error, MetricsUnavailable):
            raise error
        if isinstance(error, PortError):
            raise MetricsUnavailable(f"{self._where} was not asked: {error}", code=error.code) from error
        if isinstance(error, requests.Timeout):
            raise MetricsUnavailable(self._too_late(timeout_s)) from error
        if isinstance(error, (requests.RequestException, urllib3.exceptions.HTTPError, OSError)):
            raise MetricsUnavailable(f"{self._where} cannot be reached: {_reason(error)}") from error
        raise error

    def _samples(self, status: int, body: bytes) -> list[Sample]:
        if status in {401, 403}:
            self._session = None  # the credential may have been changed: read it again next time
        try:
            answer = msgspec.json.decode(body, type=_Answer)
        except (msgspec.MsgspecError, RecursionError) as error:
            if status != 200:
                said = _plain(body)
                raise MetricsUnavailable(
                    f"{self._where} answered with HTTP status {status}{said and f': {said}'}", code=str(status)
                ) from None
            raise MetricsUnavailable(f"{self._where} answered something that is no Prometheus JSON: {error}") from error
        if status != 200 or answer.status != "success":
            said = f"{answer.error_type}: {answer.error}" if answer.error else answer.status
            raise MetricsUnavailable(
                f"{self._where} refused the query with HTTP status {status}: {said[:QUOTE_LENGTH]}",
                code=answer.error_type or str(status),
            )
        if answer.data is None or answer.data.result_type != "vector":
            kind = "no data" if answer.data is None else f"a {answer.data.result_type[:QUOTE_LENGTH]}"
            raise MetricsUnavailable(f"{self._where} answered with {kind} where a vector was asked for")
        if lost := _lost(answer, answer.data):
            raise MetricsUnavailable(
                f"{self._where} answered with a part of what it has, which says nothing about the rest: "
                f"{lost[:QUOTE_LENGTH]}"
            )
        try:
            return msgspec.json.decode(answer.data.result, type=list[Sample])
        except (msgspec.MsgspecError, RecursionError) as error:
            raise MetricsUnavailable(f"{self._where} answered a vector that does not read: {error}") from error

    def _new_session(self) -> requests.Session:
        session = requests.Session()
        session.trust_env = False  # no proxy, no .netrc: the address and the credential are what was configured
        if self._read_auth is not None:
            session.auth = parse_auth(self._read_auth())
        if self._read_ca is not None:
            with tempfile.NamedTemporaryFile("w", suffix=".pem", delete=False) as file:
                file.write(self._read_ca())
            session.verify = file.name
        return session


def _lost(answer: _Answer, data: _Vector) -> str:
    """What a store of several parts says about those that did not answer; empty for a whole answer.

    Any warning counts: of those that Prometheus itself gives, none leaves the answer whole either.
    """
    said = [str(warning) for warning in (*(answer.warnings or ()), *(data.warnings or ()))]
    told = [warning for warning in said if not warning.startswith(_NO_LOSS)]
    return "; ".join(told) or ("isPartial" if answer.is_partial else "")


def _plain(body: bytes) -> str:
    """A refusal in plain words, such as Mimir's `no org id`; empty for pages and whatever else."""
    text = body[: QUOTE_LENGTH + 1].decode("utf-8", "replace").strip()
    return text if text.isprintable() and len(text) <= QUOTE_LENGTH and not text.startswith(("<", "{")) else ""


def _reason(error: Exception) -> str:
    """The innermost cause in words: requests and urllib3 wrap it several times, object addresses included."""
    seen: Exception = error
    while isinstance(seen.__cause__ or seen.__context__, Exception):
        seen = seen.__cause__ or seen.__context__  # type: ignore[assignment]  # the loop's condition says so
    return f"{type(seen).__name__}: {seen}"[:QUOTE_LENGTH]
