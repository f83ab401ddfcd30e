"""Every parameter of both services at its ends, through all that reads it: what cannot be carried is refused.

A parameter without ends in setting_ends.py makes the walk itself fail. Three packagings of each service carry all that
is legal: the shortest and the longest values stand in the files, as a person would write them, the odd ones are given
with --param.
"""

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import pytest
import requests
import yaml

from autoscaler.decide.capacity.catalogue import CATALOGUE
from autoscaler.deploy.join_deadline import join_deadline_s
from autoscaler.policy import Policy, Workers
from autoscaler.runtime import read_settings
from autoscaler.simulator.cluster import SimCluster
from autoscaler.simulator.ec2 import Ec2Settings
from autoscaler.state.size import STATE_LIMIT_BYTES
from tests.reconcile.conftest import deployment
from tests.service import setting_limits as limits
from tests.service.conftest import ROOT, copy_project, sls_package_in
from tests.service.sandbox import BINARY, CA_HASH, SCRIPTS, TOKEN, VERSION, Machine, publish_bundle
from tests.service.setting_ends import AS_MUCH_AS_FITS, REGION, SERVICE
from tests.service.setting_packagings import (
    LONGEST,
    NAMES,
    ODD,
    SERVICES,
    VOLUME,
    Packaged,
    Service,
    node,
    package,
    settings_of,
    user_data_bytes,
)

# --------------------------------------------------------------------------------------------------- what is refused


@cache
def accepted(service: Service) -> dict[str, dict[str, bool]]:
    """Which of its values each rule accepts, and the names of all rules."""
    program = """
      const { rules } = require(`./scripts/${given.rules}.js`);
      const values = (name) => given.values[name] ?? [];
      const test = (name) => Object.fromEntries(values(name).map((value) => [value, rules[name][0].test(value)]));
      console.log(JSON.stringify(Object.fromEntries(Object.keys(rules).map((name) => [name, test(name)]))));
    """
    values = {name: [*ends.carried, *ends.refused] for name, ends in service.ends.items()}
    found: dict[str, dict[str, bool]] = node(program, {"rules": service.rules, "values": values})
    return found


@pytest.mark.parametrize("service", SERVICES, ids=lambda s: s.file)
def test_the_walk_meets_every_parameter(service: Service) -> None:
    before_the_plugins, _, _ = (ROOT / service.file).read_text(encoding="utf-8").partition("\nplugins:")
    defaults = yaml.safe_load(before_the_plugins)["params"]["default"]
    assert set(defaults) == set(accepted(service)) == set(service.ends)
    assert all(ends.carried and ends.refused for ends in service.ends.values())


@pytest.mark.parametrize(
    ("service", "name"), [pytest.param(s, n, id=f"{s.file}-{n}") for s in SERVICES for n in s.ends]
)
def test_what_lies_beyond_an_end_is_refused(service: Service, name: str) -> None:
    answers = accepted(service)[name]
    ends = service.ends[name]
    assert [value for value in ends.refused if answers[value]] == []
    assert [v for v in ends.carried if not answers[v] and AS_MUCH_AS_FITS not in v] == []


@pytest.mark.parametrize(
    ("service", "settings", "sentence"),
    [
        (0, {"notifyTopicArn": "arn:aws:sns:eu-west-1:111122223333:t"}, "notifyTopicArn names a topic in eu-west-1"),
        (0, {"alarmTopicArn": "arn:aws:sns:eu-west-1:111122223333:t"}, "alarmTopicArn names a topic in eu-west-1"),
        (0, {"digestSchedule": "cron(0 6 * * ? *)"}, "digestSchedule is set and nobody would be told"),
        (1, {"serverRootDevice": "/dev/sdf"}, "the name of the cluster's data volume"),
        (1, {"serverRootDevice": "/dev/xvdf"}, "the name of the cluster's data volume"),
        (0, {"k3sAgentArguments": "--node-name=a"}, "holds --node-name, which the machine's bootstrap settles"),
        (0, {"k3sAgentArguments": "--v -s https://a:6443"}, "holds -s, "),
        (0, {"k3sAgentArguments": "--token-file /a"}, "holds --token-file, "),
        (0, {"k3sAgentArguments": "--kubelet-arg=provider-id=a"}, "holds --kubelet-arg=provider-id, "),
        (0, {"k3sAgentArguments": "--kubelet-arg provider-id=a"}, "holds --kubelet-arg provider-id, "),
        (1, {"k3sServerArguments": "--data-dir=/a"}, "holds --data-dir, "),
        (1, {"k3sServerArguments": "--disable=traefik --https-listen-port=443"}, "holds --https-listen-port, "),
    ],
)
def test_what_fits_the_pattern_and_nothing_else_is_refused(
    service: int, settings: dict[str, str], sentence: str
) -> None:
    program = """
      const { together } = require(`./scripts/${given.rules}.js`);
      const said = together.map((rule) => rule(given.settings, { region: given.region }));
      console.log(JSON.stringify(said.filter(Boolean)));
    """
    fitting = {"architecture": "x86_64", "serverInstanceType": "t3.medium", "flannelBackend": "vxlan"}
    given = {"rules": SERVICES[service].rules, "settings": fitting | settings, "region": REGION}
    (said,) = node(program, given)
    assert sentence in said


# ------------------------------------------------------------------------------------------------- what is packaged


PACKAGINGS: Final = [
    pytest.param((service, turn), id=f"{service.file}: {said}") for service in SERVICES for turn, said in NAMES.items()
]


@pytest.fixture(scope="module")
def packagings(build_folder: Path, artifact: Path) -> Callable[[Service, int], Packaged]:
    """Each packaging once, and none that no test of this process asks for."""
    assert artifact.exists()
    return cache(lambda service, turn: package(service, turn, build_folder / f"extreme-{service.name}-{turn}"))


@pytest.fixture(params=PACKAGINGS)
def packaged(request: pytest.FixtureRequest, packagings: Callable[[Service, int], Packaged]) -> Packaged:
    return packagings(*request.param)


def test_a_packaging_at_its_ends_stays_within_aws_limits_and_holds_every_value(packaged: Packaged) -> None:
    assert limits.beyond(packaged.template) == []
    texts = packaged.texts()
    for name, value in packaged.settings.items():
        if value in {"", "true", "false"} or name in packaged.nowhere():
            continue
        parts = re.findall(r"sha256:\w+", value) if name == "imageDigests" else [value]
        assert [part for part in parts if not any(part in text for text in texts)] == [], name


@pytest.mark.parametrize("turn", NAMES, ids=NAMES.values())
def test_the_functions_read_what_was_given(packagings: Callable[[Service, int], Packaged], turn: int) -> None:
    packaged = packagings(SERVICES[0], turn)
    names = {"WorkerLaunchTemplate": "lt-0"}
    for function in ("AlertsLambdaFunction", "SweepLambdaFunction", "LifecycleLambdaFunction"):
        variables = packaged.template.properties(function)["Environment"]["Variables"]
        environ: dict[str, str] = {
            name: text if isinstance(text, str) else names.get(text["Ref"], text["Ref"])
            for name, text in variables.items()
        }
        settings, given = read_settings(environ), packaged.settings
        assert settings.cluster_id == given["clusterId"]
        assert settings.prometheus_url == given["prometheusUrl"]
        host = urlsplit(settings.prometheus_url).hostname or ""
        assert requests.Request("POST", f"{settings.prometheus_url}/api/v1/query").prepare().url
        assert host.encode("idna"), "what a socket is opened with"
        assert ",".join(settings.subnet_ids) == given["workerSubnetIds"]
        assert (settings.prometheus_auth_parameter or "") == given["prometheusAuthParameter"]
        assert (settings.prometheus_ca_parameter or "") == given["prometheusCaParameter"]
        assert (settings.notify_topic_arn or "") == given["notifyTopicArn"]
        assert settings.start_mode == given["startMode"]
        assert environ["AWS_USE_DUALSTACK_ENDPOINT"] == given["functionDualStack"]


# ------------------------------------------------------------------------------------------------------- bootstraps


def machine_of(packaged: Packaged, folder: Path) -> Machine:
    """The machine whose user data this packaging made."""
    given = packaged.settings
    script = folder / "user-data"
    script.write_text(packaged.user_data(), encoding="utf-8")
    script.chmod(0o755)
    machine = Machine(
        folder / "world", str(script), cluster=given["clusterId"], version=given.get("k3sVersion", VERSION)
    )
    github = "https://github.com/k3s-io/k3s/releases/download"
    machine.write("releases-address", given["k3sReleasesUrl"] or github)
    if given["k3sRegistriesParameter"]:
        machine.any_parameter(given["k3sRegistriesParameter"], "mirrors: {}")
    return machine


@pytest.mark.parametrize("turn", NAMES, ids=NAMES.values())
def test_a_worker_joins_with_the_arguments_that_were_given(
    packagings: Callable[[Service, int], Packaged], turn: int, tmp_path: Path
) -> None:
    packaged = packagings(SERVICES[0], turn)
    machine = machine_of(packaged, tmp_path)
    for name, value in {
        "server-url": "https://10.0.1.10:6443",
        "version": VERSION,
        "ca-hash": CA_HASH,
        "agent-token": f"K10{CA_HASH}::{TOKEN}",
    }.items():
        machine.parameter(name, value)
    ran = machine.run()
    assert ran.returncode == 0, ran.stdout + ran.stderr + machine.read("console")
    arrived(machine, "k3s-agent", packaged.settings, "k3sAgentArguments")


@pytest.mark.parametrize("turn", [LONGEST, ODD], ids=[NAMES[LONGEST], NAMES[ODD]])
def test_a_server_starts_with_the_arguments_that_were_given(
    packagings: Callable[[Service, int], Packaged], turn: int, tmp_path: Path
) -> None:
    packaged = packagings(SERVICES[1], turn)
    machine = machine_of(packaged, tmp_path)
    machine.write("machine", "aarch64" if packaged.settings["architecture"] == "arm64" else "x86_64")
    machine.environment = {"SYNC_ROOT": str(machine.world / "root")}
    disk = machine.world / "root/sys/block/nvme1n1/device"
    disk.mkdir(parents=True)
    (disk / "serial").write_text(VOLUME.replace("-", ""))
    (machine.world / "root/dev").mkdir()
    machine.write("root/dev/nvme1n1", "")
    publish_bundle(machine, {"server-sync.sh": (SCRIPTS / "server-sync.sh").read_text()}, piece_length=1000)
    ran = machine.run()
    assert ran.returncode == 0, ran.stdout + ran.stderr + machine.read("console")
    arrived(machine, "k3s", packaged.settings, "k3sServerArguments")
    assert f"--node-name=server-{packaged.settings['clusterId']}" in machine.unit_arguments("k3s")


def arrived(machine: Machine, unit: str, given: dict[str, str], arguments: str) -> None:
    """What a machine was given is what its unit starts, and where it took K3s and its registries from."""
    extra = given[arguments].split(" ") if given[arguments] else []
    extra += ["--node-label=k3s-autoscaler/pool=general"] if unit == "k3s-agent" else []
    started = machine.unit_arguments(unit)
    assert started[len(started) - len(extra) :] == extra
    assert started[len(started) - len(extra) - 1].startswith("--kubelet-arg=eviction-hard=")
    assert machine.read("root/usr/local/bin/k3s") == BINARY
    assert machine.read("root/etc/rancher/k3s/registries.yaml") == (
        "mirrors: {}\n" if given["k3sRegistriesParameter"] else ""
    )


@pytest.mark.parametrize("service", SERVICES, ids=lambda s: s.file)
def test_one_character_more_than_user_data_holds_is_refused_with_a_sentence(service: Service) -> None:
    settings = settings_of(service, LONGEST)
    assert user_data_bytes(service, settings) == limits.USER_DATA_BYTES
    with pytest.raises(RuntimeError, match=f"shorten what stands in it, such as parameter {service.arguments}"):
        user_data_bytes(service, settings | {service.arguments: settings[service.arguments] + "a"})


# ------------------------------------------------------------------------------------------ the file, and the stage


@pytest.mark.parametrize(("characters", "said"), [(4096, ""), (4097, "4097 characters together, and 4096 can be kept")])
def test_what_is_kept_has_room_in_one_parameter(characters: int, said: str) -> None:
    program = """
      const kept = new (require("./scripts/serverless-kept-parameters-plugin.js"))({
        processedInput: { commands: ["package"], options: { param: [`a=${"x".repeat(given - '{"a":""}'.length)}`] } },
        configurationInput: { service: "s", provider: { stage: "local" }, params: { default: {} } },
        service: { provider: { compiledCloudFormationTemplate: { Resources: {} } } },
        classes: { Error },
      });
      let said = "";
      try { kept.keep(); } catch (error) { said = error.message; }
      console.log(JSON.stringify(said));
    """
    answer = node(program, characters)
    assert said in answer
    assert bool(said) == bool(answer)


UNREADABLE: Final = {
    "vpcNetwork": "10.20",  # YAML's number 10.2
    "zones": "[eu-central-1a, eu-central-1b]",
    "imageDigests": "{prometheus: sha256}",
}


@pytest.fixture(scope="module")
def refusals(build_folder: Path) -> str:
    """What is said of values that YAML takes for other than text, and of a stage that no name has room for."""
    folder = build_folder / "unreadable"
    copy_project(folder)
    stage = "s" * 33
    written = "".join(f"    {name}: {text}\n" for name, text in UNREADABLE.items())
    file = folder / "cluster.yml"
    file.write_text(file.read_text().replace("params:\n", f"params:\n  {stage}:\n    clusterId: a\n{written}", 1))
    ran = sls_package_in(folder, "--config", "cluster.yml", "--stage", stage)
    assert ran.returncode != 0
    return ran.stdout + ran.stderr


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_yaml_does_not_take_for_text_is_refused(refusals: str, name: str) -> None:
    assert re.search(
        rf"^Parameter {name} of stage .* was read as .* and not as text: put it into quotes", refusals, re.MULTILINE
    )


def test_a_stage_that_no_name_has_room_for_is_refused(refusals: str) -> None:
    assert f'The stage is "{"s" * 33}": it must be a name of 1 to 32 lower-case letters' in refusals


# ------------------------------------------------------------------------------------------------ a look, and times


def test_a_look_launches_with_as_many_subnets_and_types_as_there_may_be() -> None:
    types = tuple(CATALOGUE)[:50]
    subnets = tuple(
        (subnet, f"eu-central-1{chr(ord('a') + number)}")
        for number, subnet in enumerate(SERVICE["workerSubnetIds"].carried[LONGEST].split(","))
    )
    policy = Policy(version=1, workers=Workers(instance_types=types, max=1000))
    cluster = SimCluster(policy, workers=2, ec2=Ec2Settings(subnet_zones=subnets))
    cluster.apply(deployment("web", 1000))
    cluster.run(30)
    cluster.sweep()
    assert cluster.wires.totals["ec2", "launch"] > 0
    assert cluster.item.largest_bytes < STATE_LIMIT_BYTES


@pytest.mark.parametrize("turn", NAMES, ids=NAMES.values())
def test_a_worker_gives_up_before_the_policy_has_it_replaced(
    packagings: Callable[[Service, int], Packaged], turn: int
) -> None:
    packaged = packagings(SERVICES[0], turn)
    deadline_s = join_deadline_s(packaged.policy)
    assert f"export JOIN_DEADLINE_S='{deadline_s}'\n" in packaged.user_data()
    assert deadline_s < packaged.policy.workers.join_timeout_s
