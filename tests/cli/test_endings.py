"""How commands end: with one sentence and a code, whatever stands between here and AWS; and what their help says."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from autoscaler.aws.dynamodb import DynamoStateStore
from autoscaler.cli import version as versions
from autoscaler.cli.group import TRACE
from autoscaler.cli.main import app
from autoscaler.cli.version import version
from tests.aws.loopback import Answer, closed_url, reply, serving

ROOT = Path(__file__).resolve().parents[2]
PAGE = (
    "<!DOCTYPE html>\n<html><head><style>b {}</style><title>Sign in</title></head><body>Accept the terms</body></html>"
)
CLUSTER = ("--cluster", "demo", "--table", "t")
COMMANDS = (
    ("status", *CLUSTER),
    ("status", "--stage", "main"),
    ("history", *CLUSTER),
    ("pause", *CLUSTER),
    ("policy", "history", *CLUSTER, "--policy", str(ROOT / "policy.yml")),
    ("token", *CLUSTER),
    ("prices", "refresh"),
)


@pytest.fixture(autouse=True)
def _a_desk(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CLUSTER_ID", "STATE_TABLE", "STAGE", "POLICY_FILE", TRACE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def ended(*arguments: str, code: int = 1) -> str:
    """The one sentence or two on standard error; nothing is on standard output."""
    result = CliRunner().invoke(app, list(arguments))
    assert (result.exit_code, result.stdout) == (code, ""), result.output
    assert result.stderr.count("\n") == 1
    assert "Traceback" not in result.stderr
    return result.stderr.rstrip("\n")


@pytest.mark.parametrize("status", [200, 403, 502])
def test_a_page_of_a_proxy_is_no_empty_answer(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(reply(status, PAGE, **{"Content-Type": "text/html"})) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        for arguments in COMMANDS:
            said = ended(*arguments)
            assert f"an HTML page came in the place of AWS' answer (status {status}): Sign in Accept the terms" in said


def refusal(code: str) -> Answer:
    body = json.dumps({"__type": f"com.amazonaws#{code}", "message": "not today"})
    return reply(400, body, **{"Content-Type": "application/x-amz-json-1.0"})


@pytest.mark.parametrize(
    ("code", "mend"),
    [
        ("ExpiredTokenException", "Sign in again: these credentials have ended, or cannot be renewed."),
        ("UnrecognizedClientException", "AWS does not know these credentials: check the profile and the clock of"),
        ("AccessDeniedException", "Whoever administers the account can grant what the message names"),
        ("ResourceNotFoundException", ""),
    ],
)
def test_what_aws_refuses_names_what_was_asked_for_and_the_mend(
    code: str, mend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(refusal(code)) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        assert ended("status", *CLUSTER).startswith(
            f"AWS refused to read the state of demo: {code}: not today. {mend}".rstrip()
        )


def test_no_way_no_credentials_no_region_no_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    said = ended("status", *CLUSTER, "--endpoint-url", closed_url())
    assert "EndpointConnectionError" in said
    assert said.endswith("Check the connection, the region, --endpoint-url and HTTPS_PROXY.")
    assert ended("status", *CLUSTER, "--profile", "opps").endswith("names those that there are.")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    assert ended("status", *CLUSTER).endswith("Give credentials: --profile, AWS_PROFILE, or sign in.")
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name)
    assert ended("status", *CLUSTER).endswith("Give --region, or set AWS_REGION.")


def break_down(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def load(_: DynamoStateStore) -> None:
        raise error

    monkeypatch.setattr(DynamoStateStore, "load", load)


def test_a_fault_of_ours_is_a_sentence_and_its_trace_is_to_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    break_down(monkeypatch, KeyError("Parameter"))
    said = ended("status", *CLUSTER)
    assert said.startswith("This is a fault of k3s-autoscaler itself (KeyError: 'Parameter'): run it again with ")
    monkeypatch.setenv(TRACE, "1")
    assert isinstance(CliRunner().invoke(app, ["status", *CLUSTER]).exception, KeyError)


def test_ctrl_c_ends_with_130(monkeypatch: pytest.MonkeyPatch) -> None:
    break_down(monkeypatch, KeyboardInterrupt())
    assert CliRunner().invoke(app, ["status", *CLUSTER]).exit_code == 130


def helps(command: object, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every command and group."""
    yield words
    for name, one in getattr(command, "commands", {}).items():
        yield from helps(one, (*words, name))


@pytest.mark.parametrize("words", list(helps(get_command(app))), ids=" ".join)
def test_each_help_fits_80_columns_and_shows_how(words: tuple[str, ...]) -> None:
    said = CliRunner().invoke(app, [*words, "-h"], env={"COLUMNS": "80"})
    assert said.exit_code == 0
    assert max(map(len, said.stdout.splitlines())) <= 80
    is_command = "COMMAND [ARGS]" not in said.stdout
    assert not is_command or f"\n    k3s-autoscaler {' '.join(words)}" in said.stdout, "an example, as it is typed"


def test_the_version_names_the_commit_of_a_clone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    said = CliRunner().invoke(app, ["--version"]).stdout
    assert said == f"k3s-autoscaler {version()}\n"
    number = next(line for line in (ROOT / "pyproject.toml").read_text().splitlines() if line.startswith("version = "))
    assert version().startswith(number.split('"')[1])
    assert json.loads((ROOT / "package.json").read_text())["version"] == number.split('"')[1]
    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "9.9.9"\n')
    monkeypatch.setattr(versions, "ROOT", tmp_path)
    assert version() == "9.9.9", "an unpacked archive has no commit"


def test_shells_complete_it() -> None:
    environ = {
        **os.environ,
        "_K3S_AUTOSCALER_COMPLETE": "complete_bash",
        "COMP_WORDS": "k3s-autoscaler st",
        "COMP_CWORD": "1",
    }
    told = subprocess.run(
        [sys.executable, "-m", "autoscaler.cli.main"],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.stdout.split() == ["status"]
