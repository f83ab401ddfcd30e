"""Which cluster a command is about: by its stage, by its names, or the only one that there is."""

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from autoscaler.aws.clients import Clients
from autoscaler.cli.main import app
from autoscaler.cli.stacks import PREFIX, StackUnavailable
from autoscaler.cli.target import Target, aimed
from tests.aws.conftest import REGION
from tests.aws.loopback import closed_url

ROOT = Path(__file__).resolve().parents[2]


def deploy(clients: Clients, stage: str, cluster: str, **more: str) -> None:
    """A stack with the outputs of a stage, on the emulated CloudFormation."""
    outputs = {"ClusterId": cluster, "StateTableName": f"{cluster}-table"} | more
    template = {
        "Resources": {"Queue": {"Type": "AWS::SQS::Queue"}},
        "Outputs": {name: {"Value": value} for name, value in outputs.items()},
    }
    clients.client("cloudformation").create_stack(StackName=f"{PREFIX}{stage}", TemplateBody=json.dumps(template))


@pytest.fixture(autouse=True)
def _nothing_exported(monkeypatch: pytest.MonkeyPatch, _moto: None) -> None:
    for name in ("CLUSTER_ID", "STATE_TABLE", "STAGE", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)


def aim(*arguments: str, code: int = 0) -> tuple[Target | None, str]:
    """What a command gets that is called so, and what is said on standard error."""
    got: list[Target] = []
    probe = typer.Typer()

    @probe.command()
    @aimed
    def command(*, target: Target, twice: int = 1) -> None:
        """Say nothing."""
        got.extend([target] * twice)

    ended = CliRunner().invoke(probe, list(arguments))
    assert (ended.exit_code, ended.stdout) == (code, ""), ended.output
    return (got[0] if got else None), ended.stderr


def aimed_at(*arguments: str) -> tuple[str, str, str | None]:
    target, said = aim(*arguments)
    assert target is not None
    assert not said
    return target.cluster_id, target.table, target.stage


def test_a_stage_tells_the_rest(clients: Clients) -> None:
    deploy(clients, "main", "shop", NodeCommandDocumentName="doc")
    deploy(clients, "other", "till")
    assert aimed_at("--stage", "main") == ("shop", "shop-table", "main")
    target, _ = aim("--stage", "main", "--twice", "2")
    assert target is not None
    assert target.outputs["NodeCommandDocumentName"] == "doc"
    assert (target.function(), target.function("alerts")) == ("k3s-autoscaler-main-sweep", "k3s-autoscaler-main-alerts")


def test_the_prefix_is_serverless_ymls() -> None:
    text = (ROOT / "serverless.yml").read_text()
    assert f"\nservice: {PREFIX.removesuffix('-')}\n" in text
    assert "stackName:" not in text, "the framework's own name: <service>-<stage>"
    functions = text[text.index("\nfunctions:\n") : text.index("\nresources:\n")]
    assert "\n    name:" not in functions, "the framework's own names: <service>-<stage>-<function>"


def test_the_only_stage_is_meant(clients: Clients) -> None:
    deploy(clients, "main", "shop")
    clients.client("cloudformation").create_stack(
        StackName="k3s-cluster-main", TemplateBody=json.dumps({"Resources": {"Q": {"Type": "AWS::SQS::Queue"}}})
    )
    assert aimed_at() == ("shop", "shop-table", "main")


def test_a_clusters_own_names_need_no_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", closed_url())
    assert aimed_at("--cluster", "shop", "--table", "t") == ("shop", "t", None)
    assert aimed_at("--cluster", "shop", "--table", "t", "--stage", "main") == ("shop", "t", "main")
    monkeypatch.setenv("CLUSTER_ID", "shop")
    monkeypatch.setenv("STATE_TABLE", "t")
    assert aimed_at() == ("shop", "t", None)


def test_what_is_typed_wins_over_what_is_exported(clients: Clients, monkeypatch: pytest.MonkeyPatch) -> None:
    deploy(clients, "main", "shop")
    deploy(clients, "other", "till")
    monkeypatch.setenv("CLUSTER_ID", "till")
    monkeypatch.setenv("STATE_TABLE", "till-table")
    assert aimed_at("--stage", "main") == ("shop", "shop-table", "main")
    monkeypatch.setenv("STAGE", "main")
    assert aimed_at() == ("till", "till-table", "main"), "exported beside exported: the cluster's own names"
    monkeypatch.delenv("STATE_TABLE")
    assert aimed_at("--stage", "main") == ("shop", "shop-table", "main")
    monkeypatch.delenv("CLUSTER_ID")
    assert aimed_at("--cluster", "till") == ("till", "till-table", "other"), "typed, whatever stage is exported"


def test_a_cluster_without_its_table_is_looked_for(clients: Clients) -> None:
    deploy(clients, "main", "shop")
    deploy(clients, "other", "till")
    assert aimed_at("--cluster", "till") == ("till", "till-table", "other")


def test_the_functions_of_a_cluster_that_was_named_by_itself(clients: Clients) -> None:
    target, _ = aim("--cluster", "shop", "--table", "t")
    assert target is not None
    with pytest.raises(StackUnavailable, match="no stack is known that runs the cluster shop: give --stage"):
        target.function()
    deploy(clients, "main", "shop")
    assert target.function() == "k3s-autoscaler-main-sweep"


@pytest.mark.parametrize(
    ("arguments", "stages", "says"),
    [
        ([], {}, f"Give --stage, or --cluster (or CLUSTER_ID) and --table (or STATE_TABLE): no stage is deployed in "
         f"{REGION}.\n"),
        ([], {"main": "shop", "b": "till"}, "Give --stage, or --cluster (or CLUSTER_ID) and --table (or STATE_TABLE): "
         f"deployed are b (cluster till), main (cluster shop) in {REGION}.\n"),
        (["--stage", "mian"], {"main": "shop"}, f"There is no stage mian in {REGION}: deployed is main (cluster"),
        (["--stage", "main", "--cluster", "till"], {"main": "shop"}, "The stage main runs the cluster shop, not till"),
        (["--cluster", "till"], {"main": "shop"}, f"No stack runs the cluster till in {REGION}: give --table"),
        (["--cluster", "a b"], {}, "'a b' is no cluster id"),
        (["--endpoint-url", "localhost:4566"], {}, "--endpoint-url localhost:4566 is no address: write http://"),
        (["--table", "t"], {"main": "shop"}, "Give --cluster (or CLUSTER_ID) as well, or --stage"),
    ],
)  # fmt: skip
def test_what_does_not_name_one_cluster_is_one_sentence(
    clients: Clients, arguments: list[str], stages: dict[str, str], says: str
) -> None:
    for stage, cluster in stages.items():
        deploy(clients, stage, cluster)
    target, said = aim(*arguments, code=2)
    assert target is None
    assert said.startswith(says)
    assert said.count("\n") == 1


def test_a_stack_that_is_not_there_yet_is_told(clients: Clients) -> None:
    template = {"Resources": {"Queue": {"Type": "AWS::SQS::Queue"}}}
    clients.client("cloudformation").create_stack(StackName=f"{PREFIX}new", TemplateBody=json.dumps(template))
    _, said = aim("--stage", "new", code=2)
    assert said.startswith("The stack k3s-autoscaler-new is CREATE_COMPLETE and does not name its cluster: wait until")


def test_an_endpoint_and_the_region_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    url = closed_url()
    target, _ = aim("--cluster", "shop", "--table", "t", "--endpoint-url", url)
    assert target is not None
    assert target.clients.ssm().meta.endpoint_url == url
    assert (target.region, target.clients.ssm().meta.region_name) == ("eu-west-1", "eu-west-1")
    _, said = aim("--stage", "main", "--endpoint-url", url, code=1)
    assert said.startswith("Could not read the stack k3s-autoscaler-main: EndpointConnectionError")
    target, _ = aim("--cluster", "shop", "--table", "t", "--region", "eu-north-1")
    assert target is not None
    assert target.region == "eu-north-1"


def test_a_profile_gives_region_and_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text("[profile ops]\nregion = eu-south-1\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    target, _ = aim("--cluster", "shop", "--table", "t", "--profile", "ops")
    assert target is not None
    assert target.clients.ssm().meta.region_name == "eu-south-1"
    _, said = aim("--stage", "main", "--profile", "opps", code=1)
    assert said.count("\n") == 1
    assert "opps" in said


def test_every_command_that_is_about_a_cluster_takes_the_same_options() -> None:
    commands = ["status", "history", "pause", "observe", "resume", "token", "teardown"]
    for words in [*([name] for name in commands), *(["policy", name] for name in ("show", "set", "apply", "history"))]:
        said = CliRunner().invoke(app, [*words, "--help"], env={"COLUMNS": "80"}).stdout
        for option in ("--stage", "--cluster", "--table", "--region", "--profile", "--endpoint-url"):
            assert option in said, words
