"""Asks a Prometheus for what it has recorded: range queries, some hours at a time, as one store takes only so much."""

import time
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec
import requests

from autoscaler.aws.credential import parse_auth
from autoscaler.aws.prometheus import WHOLE_OR_NOTHING
from autoscaler.backtest.history import DAEMON_SETS, NODES, Series, questions, recording_of
from autoscaler.cli.backtest.playing import bar
from autoscaler.cli.backtest.sources import Source, of_recording
from autoscaler.cli.ending import FAILED, WRONG_INPUT, end, told
from autoscaler.policy import Policy
from autoscaler.ports import MetricsUnavailable

STEP_S: Final = 300
CHUNK_STEPS: Final = 72
"""Of one answer: six hours. Prometheus gives at most 11,000 points a series, and counts samples (50 million)."""
TIMEOUT_S: Final = 120.0
_SAID: Final = 300


class _Data(msgspec.Struct, rename="camel"):
    result_type: str
    result: msgspec.Raw = msgspec.Raw(b"")


class _Answer(msgspec.Struct, rename="camel"):
    status: str
    data: _Data | None = None
    error: str = ""
    warnings: list[str] | None = None


def of_prometheus(url: str, *, days: int, policy: Policy, auth_file: Path | None) -> Source:
    """What the last `days` were, or an end with one sentence."""
    _check(url)
    session = requests.Session()
    session.trust_env = False  # the address is what was given
    if auth_file is not None:
        try:
            text = auth_file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            end(f"{auth_file} could not be read: name the file with the credential.", WRONG_INPUT)
        with told():
            session.auth = parse_auth(text)
    end_s = int(time.time()) // STEP_S * STEP_S
    steps = days * 86_400 // STEP_S
    begin_s = end_s - (steps - 1) * STEP_S
    asked = questions(policy, STEP_S)
    answers: dict[str, list[Series]] = {name: [] for name in asked}
    firsts = range(0, steps, CHUNK_STEPS)
    with told(), bar("reading") as show:
        for number, first in enumerate(firsts):
            from_s, to_s = begin_s + first * STEP_S, begin_s + (min(first + CHUNK_STEPS, steps) - 1) * STEP_S
            for name, promql in asked.items():
                # DaemonSets change seldom; where no Node was shown, nothing else was either.
                step_s = 12 * STEP_S if name == DAEMON_SETS else STEP_S
                found = _ask(session, url, promql, from_s=from_s, to_s=to_s, step_s=step_s)
                answers[name] += found
                if name == NODES and not found:
                    break
            show((number + 1) / len(firsts))
    if not answers[NODES]:
        end(
            f"Prometheus at {url} holds no kube_node_info of the last {days} days"
            f"{f' with {dict(policy.metrics.matchers)}' if policy.metrics.matchers else ''}: it has to scrape "
            "kube-state-metrics under that job's name (docs/metrics.md).",
            FAILED,
        )
    recording = recording_of(answers, begin_s=begin_s, step_s=STEP_S, steps=steps)
    return of_recording(recording, f"the last {days} days of a cluster", else_code=FAILED)


def _ask(session: requests.Session, url: str, promql: str, *, from_s: int, to_s: int, step_s: int) -> list[Series]:
    """One range query. Raises MetricsUnavailable."""
    where = f"Prometheus at {url}"
    form = {"query": promql, "start": str(from_s), "end": str(to_s), "step": str(step_s), **WHOLE_OR_NOTHING}
    try:
        response = session.post(
            f"{url.rstrip('/')}/api/v1/query_range", data=form, timeout=(5.0, TIMEOUT_S), allow_redirects=False
        )
    except requests.Timeout as error:
        raise MetricsUnavailable(f"{where} did not answer within {TIMEOUT_S:.0f} s") from error
    except requests.RequestException as error:
        raise MetricsUnavailable(f"{where} cannot be reached: {_reason(error)}") from error
    if response.is_redirect:
        raise MetricsUnavailable(f"{where} answered with a redirect: give the address that answers itself")
    try:
        answer = msgspec.json.decode(response.content, type=_Answer)
        if answer.status != "success" or answer.data is None:
            raise MetricsUnavailable(
                f"{where} refused the query with HTTP status {response.status_code}: {answer.error[:_SAID]}"
            )
        if answer.warnings:
            raise MetricsUnavailable(f"{where} answered with a part of what it has: {answer.warnings[0][:_SAID]}")
        return msgspec.json.decode(answer.data.result, type=list[Series])
    except msgspec.MsgspecError:
        raise MetricsUnavailable(
            f"{where} answered with HTTP status {response.status_code} and something that is no Prometheus JSON"
        ) from None


def _check(url: str) -> None:
    """End with WRONG_INPUT where it is no address."""
    try:
        parts = urlsplit(url)
        valid = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        valid = False
        parts = urlsplit("")
    if "@" in parts.netloc:
        end("The address holds a credential: put it into a file and name that with --auth-file.", WRONG_INPUT)
    if not valid or parts.query or parts.fragment:
        end(f"{url!r} is no address of a Prometheus: write http(s)://host:port, and a path if it has one.", WRONG_INPUT)


def _reason(error: Exception) -> str:
    """The innermost cause: requests and urllib3 wrap it several times."""
    seen: BaseException = error
    while (inner := seen.__cause__ or seen.__context__) is not None:
        seen = inner
    return f"{type(seen).__name__}: {seen}"[:_SAID]
