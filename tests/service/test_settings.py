"""Wrong parameters: one sentence each, at package time, and nothing is made."""

import base64
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from autoscaler.policyfile import layers
from tests.service.conftest import (
    CREDENTIAL_FREE,
    EVERY_PART,
    ROOT,
    Template,
    copy_project,
    sls_package,
    sls_package_in,
)
from tests.service.setting_packagings import node

WRONG = {
    "a cluster id with blanks": ("clusterId", "My Cluster", "lower-case letters, digits and hyphens"),
    "a Prometheus address with a password": ("prometheusUrl", "http://me:secret@10.0.1.10:30090", "without user"),
    "a Prometheus address without a scheme": ("prometheusUrl", "10.0.1.10:30090", "http://10.0.1.10:30090"),
    "subnets with blanks": (
        "workerSubnetIds",
        "subnet-0a0a0a0a, subnet-0b0b0b0b",
        "separated by commas without blanks",
    ),
    "a security group's name": ("workerSecurityGroupIds", "k3s-workers", "security group ids"),
    "an image that is none": ("workerImageId", "amazon-linux", "an AMI id"),
    "a shell command as agent arguments": ("k3sAgentArguments", "--x=$(reboot)", "separated by single blanks"),
    "a mirror without TLS": ("k3sReleasesUrl", "http://mirror.example/k3s", "an https address"),
    "registries given as a file": ("k3sRegistriesParameter", "registries.yaml", "the name of an SSM parameter"),
    "a first mode in which nobody would hear why nothing happens": ("startMode", "paused", "observe or active"),
    "a rate that EventBridge does not know": ("sweepRate", "rate(1 minutes)", "rate(2 minutes)"),
    "a retention that CloudWatch does not know": ("logRetentionDays", "31", "30, 60"),
    "a topic that is none": ("notifyTopicArn", "news", "the ARN of an SNS topic"),
    "alarms that are neither on nor off": ("alarms", "some", "true or false"),
    "a topic for alarms that is none": ("alarmTopicArn", "pager", "the ARN of an SNS topic"),
    "a key that is neither wanted nor not": ("alarmTopicKey", "1", "true or false"),
    "two addresses": ("alarmEmail", "a@example.org,b@example.org", "one e-mail address"),
    "a dashboard that is neither there nor not": ("dashboard", "3", "true or false"),
    "no concurrency at all": ("reservedConcurrency", "0", "a whole number from 1"),
    "a switch that is neither on nor off": ("keepTables", "maybe", "true or false"),
    "a volume too small for the image": ("workerVolumeGb", "7", "from 8 to 16384"),
    "a key's alias, which IAM does not know it by": (
        "workerVolumeKeyArn",
        "arn:aws:kms:eu-central-1:111122223333:alias/workers",
        "no alias, or empty for the account's default",
    ),
    "a key without its ARN": ("workerVolumeKeyArn", "0a0a0a0a-0a0a-0a0a-0a0a-0a0a0a0a0a0a", "the ARN of a KMS key"),
}


@pytest.fixture(scope="module")
def refusals(build_folder: Path) -> list[str]:
    """What `sls package` says of all wrong values, each parameter once a run; it must make nothing."""
    waiting = list(WRONG.values())
    said = []
    while waiting:
        batch = {name: value for name, value, _ in waiting}
        waiting = [row for row in waiting if batch[row[0]] != row[1]]
        folder = build_folder / "refused"
        ran = sls_package(folder, *(f"--param={name}={value}" for name, value in batch.items()))
        assert ran.returncode != 0
        assert not folder.exists()
        said += (ran.stdout + ran.stderr).splitlines()
    return said


@pytest.mark.parametrize(("name", "value", "sentence"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_parameter_is_refused(refusals: list[str], name: str, value: str, sentence: str) -> None:
    about = f'Parameter {name} of stage "local" is "{value}": it must be '
    assert [line for line in refusals if line.startswith(about) and sentence in line]


AT_ODDS = (
    {
        "functionSubnetIds=subnet-0a0a0a0a": "functionSubnetIds and functionSecurityGroupIds belong together",
        "alarms=false alarmEmail=me@example.org": "there would be nothing to tell",
        "alarms=false alarmTopicKey=true": "there would be nothing to encrypt",
        "workerVolumeKeyArn=arn:aws:kms:eu-west-1:111122223333:key/mrk-0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a": (
            "names a key of eu-west-1 and the deployment is to eu-central-1"
        ),
    },
    {
        "alarmTopicKey=true alarmTopicArn=arn:aws:sns:eu-west-1:111122223333:pager": "nothing to encrypt",
        "alarmEmail=me@example.org alarmTopicArn=arn:aws:sns:eu-west-1:111122223333:pager": "exclude each other",
        "functionDualStack=true": "only functions in a VPC reach AWS by its dual-stack endpoints",
    },
)
"""Parameters that need each other, and the sentence; those of one run do not stand in each other's way."""


@pytest.mark.parametrize("cases", AT_ODDS, ids=["first", "second"])
def test_parameters_that_need_each_other(build_folder: Path, cases: dict[str, str]) -> None:
    given = {parameter for parameters in cases for parameter in parameters.split()}
    ran = sls_package(build_folder / "refused", *(f"--param={parameter}" for parameter in sorted(given)))
    assert ran.returncode != 0
    for sentence in cases.values():
        assert sentence in ran.stdout + ran.stderr


@pytest.fixture(scope="module")
def each_alone(build_folder: Path, template: Template) -> dict[str, list[str]]:
    """What the rules say of the settings of stage `local` with each case alone, and ("") with none."""
    assert template.body
    state = json.loads((build_folder / "local" / "serverless-state.json").read_text(encoding="utf-8"))
    cases = ["", *(parameters for run in AT_ODDS for parameters in run)]
    settings = [
        state["service"]["custom"]["settings"] | dict(parameter.split("=", 1) for parameter in parameters.split())
        for parameters in cases
    ]
    program = """
      const { together } = require("./scripts/service-settings.js");
      const there = { stage: "local", region: "eu-central-1" };
      console.log(JSON.stringify(given.map((one) => together.map((rule) => rule(one, there)).filter(Boolean))));
    """
    return dict(zip(cases, node(program, settings), strict=True))


@pytest.mark.parametrize(("parameters", "sentence"), [case for run in AT_ODDS for case in run.items()])
def test_each_of_them_is_refused_alone(each_alone: dict[str, list[str]], parameters: str, sentence: str) -> None:
    assert [said for said in each_alone[parameters] if sentence in said]
    assert each_alone[""] == []


def test_arguments_with_a_secret_are_refused(build_folder: Path) -> None:
    ran = sls_package(build_folder / "refused", "--param=k3sAgentArguments=--token=abc")
    assert ran.returncode != 0
    assert "k3sAgentArguments holds a secret" in ran.stdout + ran.stderr


UNKNOWN = {
    "sweeprate=rate(5 minutes)": "There is no parameter sweeprate: did you mean sweepRate?",
    "functionSubnetId=subnet-0a0a0a0a": "There is no parameter functionSubnetId: did you mean functionSubnetIds?",
    "colour=blue": "There is no parameter colour: serverless.yml lists them under params.default.",
    "serverInstanceType=t3.large": "Parameter serverInstanceType belongs to cluster.yml and means nothing",
}


@pytest.fixture(scope="module")
def unknown(build_folder: Path) -> list[str]:
    """What is said of parameters that nobody knows; one run for all."""
    folder = build_folder / "refused"
    ran = sls_package(folder, *(f"--param={parameter}" for parameter in UNKNOWN))
    assert ran.returncode != 0
    assert not folder.exists()
    return (ran.stdout + ran.stderr).splitlines()


@pytest.mark.parametrize("sentence", UNKNOWN.values(), ids=[name.partition("=")[0] for name in UNKNOWN])
def test_a_parameter_that_nobody_knows_is_refused(unknown: list[str], sentence: str) -> None:
    assert [line for line in unknown if line.startswith(sentence)]


def test_an_image_for_another_processor_than_the_policys_types_is_refused(build_folder: Path) -> None:
    image = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-arm64"
    ran = sls_package(build_folder / "refused", f"--param=workerImageParameter={image}")
    assert ran.returncode != 0
    assert "are x86_64 and the workers' image is arm64" in ran.stdout + ran.stderr


@pytest.fixture
def clone(build_folder: Path) -> Iterator[Path]:
    """A folder that links to everything but the files of the top level, which are copies."""
    folder = build_folder / "clone"
    copy_project(folder)
    yield folder
    shutil.rmtree(folder)


def test_a_stage_has_its_own_policy_that_extends_the_common_one(clone: Path) -> None:
    (clone / "policy.prod.yml").write_text("extends: policy.yml\nworkers: {max: 30, join_timeout_s: 20m}\n")
    ran = sls_package_in(clone, "--param=policyFile=policy.prod.yml")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    text = (clone / ".serverless" / "cloudformation-template-update-stack.json").read_text(encoding="utf-8")
    template = Template(json.loads(text), text)
    assert template.properties("SweepLambdaFunction")["Environment"]["Variables"]["POLICY_FILE"] == "policy.prod.yml"
    user_data = base64.b64decode(template.properties("WorkerLaunchTemplate")["LaunchTemplateData"]["UserData"]).decode()
    assert "export JOIN_DEADLINE_S='960'" in user_data, "four fifths of the stage's join_timeout_s"


def test_a_stages_policy_is_checked_whole(clone: Path) -> None:
    (clone / "policy.prod.yml").write_text("extends: policy.yml\nworkers: {max: 1}\n")
    ran = sls_package_in(clone, "--param=policyFile=policy.prod.yml")
    assert ran.returncode != 0
    assert "policy.prod.yml with policy.yml is not a valid policy: workers.min is 2 and workers.max is 1" in (
        ran.stdout + ran.stderr
    )


def test_make_up_refuses_a_wrong_policy_before_anything_is_made(clone: Path) -> None:
    """scripts/up has both services printed first, with everything that was given."""
    (clone / "policy.yml").write_text("version: 1\nworkers: {max: 1}\n")
    command = [str(ROOT / "node_modules" / ".bin" / "sls"), "print", "--config", "serverless.yml"]
    ran = subprocess.run(
        command, cwd=clone, env=CREDENTIAL_FREE, capture_output=True, text=True, timeout=120, check=False
    )
    assert ran.returncode != 0
    assert "policy.yml is not a valid policy: workers.min is 2 and workers.max is 1" in ran.stdout + ran.stderr
    assert 'said=$(sls print "$1" "${@:2}" 2>&1)' in (ROOT / "scripts" / "up").read_text(encoding="utf-8")


def test_a_stages_file_is_one_that_a_policy_may_extend() -> None:
    patterns = (ROOT / "scripts" / "setting-patterns.js").read_text(encoding="utf-8")
    assert f"policyFile: [/^{layers.FILE.pattern}$/," in patterns


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("  max: 10", "  maximum: 10", "is not a valid policy"),
        ("  pending_for_s: 10", "  pending_for_s: 11", "are not what the policy renders: run `make rules`"),
        ("instance_types: [t3.small]", "instance_types: [x9.huge]", "whose size is not in the catalogue"),
    ],
)
def test_a_policy_that_does_not_fit_is_refused(clone: Path, old: str, new: str, sentence: str) -> None:
    policy = clone / "policy.yml"
    assert old in policy.read_text()
    policy.write_text(policy.read_text().replace(old, new))
    ran = sls_package_in(clone, "--package", "build/.refused")
    assert ran.returncode != 0
    assert sentence in ran.stdout + ran.stderr
    assert not (ROOT / "build/.refused").exists()


def test_what_was_given_is_kept_with_the_stack(template: Template, full_template: Template) -> None:
    properties = full_template.properties("KeptParameters")
    assert properties["Name"] == "/k3s-autoscaler/k3s-autoscaler-local/parameters"
    assert json.loads(properties["Value"]) == EVERY_PART
    assert len(properties["Value"]) < 4096
    assert json.loads(template.properties("KeptParameters")["Value"]) == {}


ADDRESSES = {
    "http://10.0.1.10:30090": True,
    "https://[fd00::1]:9090/": True,
    "https://thanos.example": True,
    "https://mimir.example/prometheus": True,
    "http://10.0.1.10:8481/select/0/prometheus": True,
    "http://10.0.1.10:8481/select/1:2/prometheus/": True,
    "https://mimir.example/prometheus/api/v1/query": False,
    "https://mimir.example/prometheus/api/v1/": False,
    "http://10.0.1.10:9090/?query=up": False,
    "http://10.0.1.10:9090/#top": False,
    "http://10.0.1.10:9090/a b": False,
}


def test_addresses_of_stores() -> None:
    script = (
        "const { rules } = require('./scripts/service-settings.js');"
        "console.log(JSON.stringify(process.argv.slice(1).map((value) => rules.prometheusUrl[0].test(value))));"
    )
    ran = subprocess.run(
        ["node", "-e", script, "--", *ADDRESSES], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert dict(zip(ADDRESSES, json.loads(ran.stdout), strict=True)) == ADDRESSES


def test_a_stage_of_ones_own_says_everything_that_is_missing(build_folder: Path) -> None:
    ran = sls_package(build_folder / "refused", "--stage", "prod")
    said = ran.stdout + ran.stderr
    assert ran.returncode != 0
    for name in ("clusterId", "prometheusUrl", "workerSubnetIds", "workerSecurityGroupIds"):
        assert f'Parameter {name} of stage "prod" is not set' in said


def test_the_made_up_values_of_stage_local_are_not_deployed_to_aws() -> None:
    environment = {name: value for name, value in CREDENTIAL_FREE.items() if name != "AWS_ENDPOINT_URL"}
    command = [str(ROOT / "node_modules" / ".bin" / "sls"), "deploy"]
    ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode != 0
    assert "set AWS_ENDPOINT_URL to the emulator" in ran.stdout + ran.stderr
