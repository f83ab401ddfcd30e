"""The webhook's token: made, rotated, ended - once each, whatever answers are lost and whoever else is at it."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from autoscaler.aws.clients import Clients
from autoscaler.aws.parameters import ParameterUnavailable
from autoscaler.cli.main import app
from autoscaler.cli.token.command import CREDENTIALS_FILE
from autoscaler.cli.token.parameter import (
    Done,
    MissingParameter,
    Raced,
    Rotation,
    SsmTokenParameter,
    Stored,
    Wish,
    change_tokens,
)
from tests.aws.loopback import closed_url

ROOT = Path(__file__).resolve().parents[3]
NAME = "/k3s/demo/webhook-token"


@dataclass
class Parameter:
    """Parameter Store's behaviour: versions count up, `create` fails where something stands, answers may be lost."""

    tokens: tuple[str, ...] | None = None
    version: int = 0
    writes: int = 0
    lost_after: int = 0
    lost_before: int = 0
    before_write: Callable[["Parameter"], None] = lambda _: None
    after_write: Callable[["Parameter"], None] = lambda _: None
    log: list[tuple[str, ...]] = field(default_factory=list)

    def read(self) -> Stored | None:
        return None if self.tokens is None else Stored(tokens=self.tokens, version=self.version)

    def write(self, tokens: tuple[str, ...], *, create: bool) -> int:
        act, self.before_write = self.before_write, lambda _: None
        act(self)
        if self.lost_before:
            self.lost_before -= 1
            raise ParameterUnavailable("lost", code="ReadTimeoutError", effect_unknown=True)
        if create and self.tokens is not None:
            raise ParameterUnavailable("exists", code="ParameterAlreadyExists")
        self.put(tokens)
        self.writes += 1
        act, self.after_write = self.after_write, lambda _: None
        act(self)
        if self.lost_after:
            self.lost_after -= 1
            raise ParameterUnavailable("lost", code="ReadTimeoutError", effect_unknown=True)
        return self.version

    def put(self, tokens: tuple[str, ...]) -> None:
        self.tokens, self.version = tokens, self.version + 1
        self.log.append(tokens)


def change(parameter: Parameter, wish: Wish = Wish.ROTATE, *, new: str = "new") -> Rotation:
    return change_tokens(parameter, wish, new_token=lambda: new)


def test_it_is_created_then_rotated_then_the_previous_one_ends() -> None:
    parameter = Parameter()
    assert change(parameter, new="a").done is Done.CREATED
    assert parameter.tokens == ("a",)
    rotated = change(parameter, new="b")
    assert (rotated.done, rotated.tokens, rotated.ended, rotated.version) == (Done.ROTATED, ("b", "a"), 0, 2)
    dropped = change(parameter, Wish.DROP_PREVIOUS)
    assert (dropped.done, dropped.tokens, dropped.ended) == (Done.DROPPED, ("b",), 1)


def test_a_second_rotation_ends_the_oldest_and_says_so() -> None:
    parameter = Parameter(tokens=("b", "a"), version=2)
    rotated = change(parameter, new="c")
    assert (rotated.tokens, rotated.ended) == (("c", "b"), 1)


@pytest.mark.parametrize(
    ("tokens", "wish"), [(("b", "a"), Wish.ENSURE), (("b",), Wish.ENSURE), (("b",), Wish.DROP_PREVIOUS)]
)
def test_what_is_done_already_is_not_done_again(tokens: tuple[str, ...], wish: Wish) -> None:
    parameter = Parameter(tokens=tokens, version=5)
    assert change(parameter, wish).done is Done.KEPT
    assert (parameter.tokens, parameter.writes) == (tokens, 0)


@pytest.mark.parametrize("tokens", [None, ()])
def test_a_missing_or_empty_parameter_is_filled(tokens: tuple[str, ...] | None) -> None:
    for wish in (Wish.ENSURE, Wish.ROTATE):
        parameter = Parameter(tokens=tokens, version=0 if tokens is None else 1)
        assert change(parameter, wish).done is Done.CREATED
        assert parameter.tokens == ("new",)
    with pytest.raises(MissingParameter):
        change(Parameter(tokens=tokens), Wish.DROP_PREVIOUS)


@pytest.mark.parametrize("before", [None, ("old",)])
def test_a_lost_answer_of_a_write_that_happened_is_one_rotation(before: tuple[str, ...] | None) -> None:
    parameter = Parameter(tokens=before, version=0 if before is None else 1, lost_after=1)
    rotation = change(parameter)
    assert (parameter.writes, parameter.tokens) == (1, ("new", *(before or ())))
    assert rotation.overwritten is None


@pytest.mark.parametrize("before", [None, ("old",)])
def test_a_lost_request_is_sent_once_more_with_the_same_token(before: tuple[str, ...] | None) -> None:
    parameter = Parameter(tokens=before, version=0 if before is None else 1, lost_before=1)
    change(parameter)
    assert parameter.log == [("new", *(before or ()))]


def test_a_store_that_stays_silent_is_told() -> None:
    parameter = Parameter(tokens=("old",), version=1, lost_before=9)
    with pytest.raises(ParameterUnavailable):
        change(parameter)
    assert parameter.tokens == ("old",)


def test_of_two_creations_at_once_the_first_stands() -> None:
    parameter = Parameter(before_write=lambda p: p.put(("theirs",)))
    with pytest.raises(Raced, match="theirs stands"):
        change(parameter)
    assert parameter.tokens == ("theirs",)


def test_a_rotation_that_overwrote_another_one_says_which_version_is_gone() -> None:
    parameter = Parameter(tokens=("old",), version=1, before_write=lambda p: p.put(("theirs", "old")))
    rotation = change(parameter)
    assert (rotation.tokens, rotation.overwritten) == (("new", "old"), 2)


@pytest.mark.parametrize("lost", [0, 1])
def test_a_rotation_that_was_overwritten_says_that_its_token_is_not_accepted(lost: int) -> None:
    parameter = Parameter(tokens=("old",), version=1, after_write=lambda p: p.put(("theirs", "old")), lost_after=lost)
    with pytest.raises(Raced, match=r"theirs stands|is not accepted"):
        change(parameter)
    assert parameter.tokens == ("theirs", "old")


# ---------------------------------------------------------------------------------------------------------- the command


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["token", *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def ssm(clients: Clients, _moto: None, monkeypatch: pytest.MonkeyPatch) -> SsmTokenParameter:
    monkeypatch.setenv("CLUSTER_ID", "demo")
    return SsmTokenParameter(clients, NAME)


def tokens(ssm: SsmTokenParameter) -> tuple[str, ...]:
    stored = ssm.read()
    return stored.tokens if stored is not None else ()


def test_the_command_makes_a_securestring_and_prints_no_token(ssm: SsmTokenParameter, clients: Clients) -> None:
    code, out, err = run()
    assert (code, err) == (0, "")
    (made,) = tokens(ssm)
    assert len(made) >= 43, "256 bits in base 64"
    assert made not in out
    assert clients.ssm().get_parameter(Name=NAME)["Parameter"].get("Type") == "SecureString"
    assert out.startswith(f"{NAME} is created (version 1).")
    code, out, _ = run()
    assert code == 0
    assert "is rotated (version 2)" in out
    after = tokens(ssm)
    assert after[1:] == (made,)
    assert not any(token in out for token in after)


def test_parameter_store_itself_refuses_a_second_creation(ssm: SsmTokenParameter) -> None:
    assert ssm.write(("a",), create=True) == 1
    with pytest.raises(ParameterUnavailable) as refused:
        ssm.write(("b",), create=True)
    assert refused.value.code == "ParameterAlreadyExists"
    assert ssm.write(("b", "a"), create=False) == 2
    assert ssm.read() == Stored(tokens=("b", "a"), version=2)


def test_the_snippet_is_an_alertmanagers_and_knows_the_address(ssm: SsmTokenParameter, clients: Clients) -> None:
    del ssm
    assert "<WebhookUrl of the stack's outputs>" in run()[1]
    url = "https://abc.execute-api.eu-central-1.amazonaws.com/alerts"
    clients.ssm().put_parameter(Name="/k3s/demo/webhook-url", Value=url, Type="String")
    _, out, _ = run()
    snippet = out[out.index("  receivers:") : out.index("A cluster of")]
    (receiver,) = yaml.safe_load(snippet)["receivers"]
    (webhook,) = receiver["webhook_configs"]
    rendered = yaml.safe_load((ROOT / "monitoring" / "alertmanager.yml").read_text())
    (committed,) = rendered["receivers"][1]["webhook_configs"]
    assert webhook == committed | {"url": url}, "the same receiver as the rendered configuration's"
    assert committed["http_config"]["authorization"]["credentials_file"] == CREDENTIALS_FILE


def test_show_prints_the_token_alone_on_standard_output(ssm: SsmTokenParameter) -> None:
    code, out, err = run("--show", "--if-missing")
    assert (code, out) == (0, f"{tokens(ssm)[0]}\n")
    assert "is created" in err
    assert tokens(ssm)[0] not in err


def test_json_holds_the_token_only_when_asked_to(ssm: SsmTokenParameter) -> None:
    run()
    document = json.loads(run("--json")[1])
    assert "token" not in document
    assert (document["done"], document["version"], document["accepted_tokens"]) == ("rotated", 2, 2)
    shown = json.loads(run("--json", "--show", "--drop-previous")[1])
    assert (shown["done"], shown["token"], shown["ended_tokens"]) == ("dropped", tokens(ssm)[0], 1)


def test_if_missing_may_run_as_often_as_one_likes(ssm: SsmTokenParameter) -> None:
    run("--if-missing")
    first = tokens(ssm)
    code, out, _ = run("--if-missing")
    assert (code, tokens(ssm)) == (0, first)
    assert out.startswith(f"{NAME} is left as it is (version 1).")


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--cluster", "a b"], 2, "'a b' is no cluster id"),
        (["--cluster", ""], 2, "Give --stage, or --cluster (or CLUSTER_ID): no stage is deployed in eu-central-1."),
        (["--drop-previous", "--if-missing"], 2, "--drop-previous and --if-missing exclude each other"),
        (["--drop-previous"], 1, f"{NAME}: there is no token yet"),
    ],
)
def test_bad_input_is_one_sentence_and_writes_nothing(
    ssm: SsmTokenParameter, arguments: list[str], code: int, says: str
) -> None:
    ended, out, err = run(*arguments)
    assert (ended, out) == (code, "")
    assert err.startswith(says[:1].upper() + says[1:] if code == 2 else says)
    assert err.count("\n") == 1
    assert tokens(ssm) == ()


def test_no_credentials_and_no_connection_are_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", closed_url())
    code, out, err = run("--cluster", "demo")
    assert (code, out) == (1, "")
    assert err.startswith(f"Could not read the parameter {NAME}: EndpointConnectionError")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    code, _, err = run("--cluster", "demo")
    assert (code, err) == (
        1,
        f"Could not read the parameter {NAME}: NoCredentialsError: Unable to locate credentials. Give credentials: "
        "--profile, AWS_PROFILE, or sign in.\n",
    )
