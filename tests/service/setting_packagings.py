"""Packagings with the values of setting_ends.py: the files as a person would write them, and what comes out."""

import base64
import io
import json
import re
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml

from autoscaler.policy import Policy
from autoscaler.policy_text import parse_policy
from tests.service import setting_limits as limits
from tests.service.conftest import ROOT, Template, copy_project, sls_package, sls_package_in
from tests.service.setting_ends import AS_MUCH_AS_FITS, CLUSTER, SERVICE, Ends

SHORTEST, LONGEST, ODD = range(3)
NAMES: Final = {SHORTEST: "the shortest", LONGEST: "the longest", ODD: "odd ones"}
STAGES: Final = {SHORTEST: "a", LONGEST: "s" * 32, ODD: "local"}
JOIN_TIMEOUT_S: Final = {SHORTEST: 1, LONGEST: 86_400, ODD: 600}
VOLUME: Final = "vol-0123456789abcdef0"
ONLY_WITH_THE_SERVER: Final = {
    "k3sReleasesUrl",
    "k3sServerArguments",
    "k3sSha256Amd64",
    "k3sSha256Arm64",
    "k3sVersion",
    "serverImageParameter",
    "serverInstanceType",
    "serverRootDevice",
    "serverVolumeGb",
}


@dataclass(frozen=True, eq=False)
class Service:
    """One of the two files, and where its rules stand."""

    file: str
    rules: str
    name: str
    ends: dict[str, Ends]
    arguments: str
    """The parameter that user data has room for as its rest."""


SERVICES: Final = (
    Service("serverless.yml", "service-settings", "k3s-autoscaler", SERVICE, "k3sAgentArguments"),
    Service("cluster.yml", "cluster-settings", "k3s-cluster", CLUSTER, "k3sServerArguments"),
)


def node(program: str, given: Any, *, cwd: Path = ROOT) -> Any:
    """What a program answers to JSON in `given`, as JSON."""
    command = ["node", "-e", f"const given = JSON.parse(process.argv[1]);{program}", json.dumps(given)]
    ran = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60, check=False)
    if ran.returncode != 0:
        raise RuntimeError(ran.stderr)
    return json.loads(ran.stdout)


@dataclass(frozen=True)
class Packaged:
    """One packaging: what was given, and what came out."""

    service: Service
    turn: int
    settings: dict[str, str]
    policy: Policy
    template: Template

    @property
    def has_server(self) -> bool:
        return self.settings.get("serverPresent") == "true"

    def texts(self) -> list[str]:
        """All that was made of the values, but the parameter that keeps them: what is packed in it is unpacked."""
        resources = dict(self.template.body["Resources"])
        del resources["KeptParameters"]
        found = [*limits.texts(resources), *limits.texts(self.template.body.get("Parameters", {}))]
        if self.has_server or self.service.file == "serverless.yml":
            found.append(self.user_data())
            assert len(found[-1].encode()) <= limits.USER_DATA_BYTES
        if pieces := [e["Properties"]["Value"] for n, e in sorted(resources.items()) if re.fullmatch(r"Bundle\d+", n)]:
            with tarfile.open(fileobj=io.BytesIO(base64.b64decode("".join(pieces)))) as bundle:
                unpacked = [bundle.extractfile(member) for member in bundle.getmembers()]
                found += [file.read().decode() for file in unpacked if file is not None]
        return found

    def nowhere(self) -> set[str]:
        """The parameters whose values decide and stand nowhere, or stand where something is that was left out."""
        image = {
            name.replace("Id", "Parameter") for name in ("workerImageId", "serverImageId") if self.settings.get(name)
        }
        server = set() if self.has_server else ONLY_WITH_THE_SERVER
        return {"architecture", "flannelBackend", "functionEgress"} | image | server | self._file()

    def _file(self) -> set[str]:
        """Of the cluster's policy only what it holds is deployed; the functions are told which file is theirs."""
        return set() if self.service.file == "serverless.yml" else {"policyFile"}

    def user_data(self) -> str:
        """The script that the machine runs first."""
        if "WorkerLaunchTemplate" in self.template.body["Resources"]:
            data = self.template.properties("WorkerLaunchTemplate")["LaunchTemplateData"]["UserData"]
            return base64.b64decode(data).decode()
        before, _, after = self.template.properties("Server")["UserData"]["Fn::Base64"]["Fn::Join"][1]
        return f"{before}{VOLUME}{after}"


def policy_of(turn: int) -> str:
    """The policy of a packaging: its times stand in user data too."""
    text = (ROOT / "policy.yml").read_text(encoding="utf-8")
    assert "join_timeout_s: 600" in text
    return text.replace("join_timeout_s: 600", f"join_timeout_s: {JOIN_TIMEOUT_S[turn]}")


def user_data_bytes(service: Service, settings: dict[str, str]) -> int:
    """How much is made of these with the longest policy. Raises RuntimeError with the sentence that refuses it."""
    program = """
      const named = (variable) => given.settings[/^param:(\\w+)/.exec(variable)[1]];
      const of = (variable) => (variable === "self:service" ? given.name : named(variable));
      const ofTheServer = ({ "Fn::Base64": { "Fn::Join": [, [before, , after]] } }) =>
        (before + given.volume + after).replaceAll("\\\\${", "${");
      const embedded = require(`${given.root}/scripts/embedded-scripts.js`);
      embedded({ resolveVariable: async (variable) => of(variable) }).then(
        ({ workerUserData, serverUserData }) => {
          const script = workerUserData ? Buffer.from(workerUserData, "base64") : ofTheServer(serverUserData);
          console.log(JSON.stringify(Buffer.byteLength(script)));
        },
        (error) => { console.error(error.message); process.exit(1); },
      );
    """
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / settings["policyFile"]).write_text(policy_of(LONGEST))
        given = {"root": str(ROOT), "name": service.name, "settings": settings, "volume": VOLUME}
        return int(node(program, given, cwd=Path(folder)))


@cache
def settings_of(service: Service, turn: int) -> dict[str, str]:
    """The values of one packaging; arguments fill user data to its last byte."""
    settings = {name: ends.carried[turn] for name, ends in service.ends.items()}
    if AS_MUCH_AS_FITS in settings[service.arguments]:
        without = settings | {service.arguments: settings[service.arguments].replace(AS_MUCH_AS_FITS, "")}
        room = limits.USER_DATA_BYTES - user_data_bytes(service, without)
        settings[service.arguments] = without[service.arguments] + ("-" + "a1_.,:=/@%+-" * room)[:room]
    return settings


def as_written(value: str) -> Any:
    """A value as a person writes it into YAML: numbers and flags without quotes."""
    return yaml.safe_load(value) if re.fullmatch(r"true|false|0|[1-9][0-9]*", value) else value


def package(service: Service, turn: int, folder: Path) -> Packaged:
    """One packaging, in a folder with files of its own where the values stand in them."""
    settings = settings_of(service, turn)
    if turn == ODD:
        given = (f"--param={name}={value}" for name, value in settings.items() if value)  # empty is no value for it
        ran = sls_package(folder, "--config", service.file, *given)
        made = folder
    else:
        copy_project(folder)
        stage = yaml.safe_dump({STAGES[turn]: {n: as_written(v) for n, v in settings.items()}}, width=10_000)
        file = folder / service.file
        text = file.read_text(encoding="utf-8")
        file.write_text(text.replace("params:\n", "params:\n" + re.sub("(?m)^", "  ", stage).rstrip(" "), 1))
        (folder / settings["policyFile"]).write_text(policy_of(turn))
        ran = sls_package_in(folder, "--config", service.file, "--stage", STAGES[turn])
        made = folder / ".serverless"
    assert ran.returncode == 0, ran.stdout + ran.stderr
    text = (made / "cloudformation-template-update-stack.json").read_text(encoding="utf-8")
    return Packaged(service, turn, settings, parse_policy(policy_of(turn)), Template(json.loads(text), text))
