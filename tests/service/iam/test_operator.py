"""The commands' own calls, both ways: what the code calls is in the table, and the table holds nothing else."""

import ast
import re
from collections import defaultdict
from typing import Any

import botocore.session
import pytest
from botocore import xform_name

from autoscaler.cli.verify.deployer import ANYTHING, DEPLOY_ACTIONS
from tests.service.conftest import ROOT
from tests.service.iam.operator import COMMANDS, table
from tests.service.iam.reference import action
from tests.service.iam.rendered import ACCOUNT, REGION
from tests.service.test_calls_and_roles import OF_THE_COMMAND_LINE, actions_in_code

# The SDK's names of services and operations that IAM calls otherwise. Source: Service Authorization Reference.
IN_IAM = {"apigatewayv2:GetApis": "apigateway:GET", "lambda:Invoke": "lambda:InvokeFunction"}
PREFIXES = {"service-quotas": "servicequotas"}
# Any one of the types will do for a principal; and the reference has two pages of the prefix `apigateway`, of which the
# package keeps the one of REST APIs, without `Apis`.
OTHERWISE = {"iam:SimulatePrincipalPolicy": {"role", "user"}, "apigateway:GET": {"Apis"}}
OF_HTTP_APIS = {"apigateway:POST"}
SOURCES = [*(ROOT / "autoscaler" / "cli").rglob("*.py"), *(ROOT / "autoscaler" / "deploy").glob("*.py")]


def called_directly() -> set[str]:
    """Every operation that the commands name; names of methods are handed on, too, so that each mention counts."""
    texts = [path.read_text(encoding="utf-8") for path in SOURCES]
    services = {"ssm"} | {name for text in texts for name in re.findall(r'client\("([a-z0-9-]+)"', text)}
    session = botocore.session.get_session()
    methods: dict[str, set[str]] = defaultdict(set)
    for service in services:
        for operation in session.get_service_model(service).operation_names:
            named = IN_IAM.get(f"{service}:{operation}", f"{PREFIXES.get(service, service)}:{operation}")
            methods[xform_name(operation)].add(named)
    found: set[str] = set()
    for text in texts:
        for node in ast.walk(ast.parse(text)):
            mentioned: Any = getattr(node, "attr", getattr(node, "value", None))
            if isinstance(mentioned, str) and mentioned in methods:
                (named,) = methods[mentioned]
                found.add(named)
    return found


def test_the_table_holds_what_the_commands_call_and_nothing_else() -> None:
    listed = {name for actions in COMMANDS.values() for name in actions}
    assert listed >= called_directly() | OF_THE_COMMAND_LINE
    # What is left is called by the functions' own ports, which `status` and `teardown` use as well.
    assert listed - called_directly() - OF_THE_COMMAND_LINE <= actions_in_code()


@pytest.mark.parametrize("command", COMMANDS)
def test_each_call_names_the_types_that_the_reference_needs(command: str) -> None:
    for name, kinds in COMMANDS[command].items():
        known = {kind.name: kind.required for kind in action(name).types}
        if name in OTHERWISE:
            assert set(kinds) == OTHERWISE[name]
        else:
            assert {kind for kind, required in known.items() if required} <= set(kinds) <= set(known), (name, known)
        assert bool(kinds) is bool(known), f"{name} can be limited to resources, or cannot"


def test_what_a_deployment_is_checked_for_exists() -> None:
    assert all(action(name) for name in DEPLOY_ACTIONS)


@pytest.mark.parametrize(("name", "form"), DEPLOY_ACTIONS.items())
def test_what_a_deployment_is_checked_on_is_what_its_calls_name(name: str, form: str) -> None:
    place = f"{REGION}:{ACCOUNT}"
    names = {"arn": "arn:aws", "place": place, "region": REGION, "account": ACCOUNT, "stack": "s", "document": "d"}
    if form != ANYTHING and name not in OF_HTTP_APIS:
        assert action(name).type_of(form.format(**names)), form


def test_the_document_has_the_table() -> None:
    text = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
    assert table() in text, f"put this under the table's head:\n{table()}"
