"""The SSM document around node-command.sh, as the template holds it."""

import json
import os
import re
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from autoscaler.observe.rules import parse_rules
from tests.service.conftest import Template
from tests.service.k3s_server import NODE, PROVIDER_ID, ended, serving


@pytest.fixture(scope="session")
def document(template: Template) -> dict[str, Any]:
    content = template.properties("NodeCommandDocument")["Content"]
    assert isinstance(content, str), "the emulator takes nothing but text"
    found: dict[str, Any] = json.loads(content)
    return found


def test_the_document_is_a_command_with_our_parameters(document: dict[str, Any]) -> None:
    assert document["schemaVersion"] == "2.2"
    assert list(document["parameters"]) == [
        "verb",
        "node",
        "providerId",
        "operationId",
        "fence",
        "notAfter",
        "timeoutSeconds",
        "graceSeconds",
        "reclaim",
    ]
    (step,) = document["mainSteps"]
    assert step["action"] == "aws:runShellScript"
    used = set(re.findall(r"\{\{(.*?)\}\}", "\n".join(step["inputs"]["runCommand"])))
    assert used == {f" {name} " for name in document["parameters"]}, "SSM would take anything else for a parameter"


@pytest.mark.parametrize("value", ["a'b", 'a"b', "a b", "a;b", "$(a)", "`a`", "a\nb", "a\\b", "a&b", "a|b", "{{ a }}"])
def test_no_parameter_lets_shell_syntax_pass(document: dict[str, Any], value: str) -> None:
    for name, rules in document["parameters"].items():
        if "allowedValues" in rules:
            assert value not in rules["allowedValues"]
        else:
            assert not re.search(rules["allowedPattern"], value), name


def test_the_document_is_one_file_that_ssm_takes(document: dict[str, Any]) -> None:
    """At most 64 KB (Systems Manager quotas); and on a server there is no folder to read the script's parts from."""
    assert len(json.dumps(document).encode()) < 64 * 1024
    lines = document["mainSteps"][0]["inputs"]["runCommand"]
    assert not [line for line in lines if line.startswith((". ", "source "))]
    assert not re.search(document["parameters"]["node"]["allowedPattern"], "Worker")


@pytest.mark.parametrize("verb", ["inspect", "rules"])
@pytest.mark.parametrize("agent", ["new", "old"])
def test_the_documents_script_runs_as_an_agent_runs_it(
    tmp_path: Path, document: dict[str, Any], agent: str, verb: str
) -> None:
    optional = {name for name, rules in document["parameters"].items() if rules.get("default") == ""}
    assert optional == {"node", "providerId"}
    values = {
        "verb": verb,
        "node": "",
        "providerId": PROVIDER_ID if verb == "inspect" else "",
        "operationId": "op1",
        "fence": "7",
        "notAfter": str(int(time.time()) + 60),
        "timeoutSeconds": "300",
        "graceSeconds": "-1",
        "reclaim": "false",
    }
    text = "\n".join(document["mainSteps"][0]["inputs"]["runCommand"])
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "NODE_COMMAND_LOG": str(tmp_path / "log")}
    for name, value in values.items():
        if agent == "new":
            environment[f"SSM_{name}"] = value
        else:
            text = text.replace("{{ " + name + " }}", value)
    script = tmp_path / "_script.sh"
    script.write_text(text)
    script.chmod(0o700)
    with serving(tmp_path) as server:
        process = subprocess.Popen(
            [script], env=environment | server.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        result = ended(process)
    assert (result["outcome"], result["operation"]) == ("succeeded", "op1")
    if verb == "inspect":
        assert result["inspection"]["node"] == NODE
    else:
        assert [spec.name for spec in parse_rules(result["rules"], answered_at_s=0).nodes] == [NODE]
