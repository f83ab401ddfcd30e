"""What a check of the account is made of: the account itself behind a seam, what is to be deployed, and a finding.

A check that may not look is a warning, never an `ok`: what is unknown is said to be unknown.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from autoscaler.aws.failures import error_code, error_message, in_one_line
from autoscaler.deploy.stack import find_stack
from autoscaler.policy import Policy

FUNCTION: Final = "AWS::Lambda::Function"
RULE: Final = "AWS::Events::Rule"
FIRST_TEMPLATE: Final = "WorkerLaunchTemplate"
_FURTHER: Final = re.compile(r"([a-z0-9-]+)/(arm64|amd64)=\$\{(\w+)\}")
"""As scripts/worker-pools.js tells the functions of them."""
DENIED: Final = frozenset({"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "AuthorizationError"})


NOT_DEPLOYED: Final = "the service is not deployed yet"
UNREADABLE: Final = (ResponseParserError, LookupError, ValueError, TypeError, AttributeError)
"""What an answer without the fields that AWS documents ends in: botocore reads a page of HTML as an empty answer."""
NOT_FROM_AWS_TODO: Final = "See what answers in AWS' place: a proxy, a captive portal, AWS_ENDPOINT_URL."


class Verdict(StrEnum):
    """How a check came out."""

    OK = "ok"
    WARNING = "warning"
    """It may work, or it could not be looked at."""
    PROBLEM = "problem"
    """It will not work."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the report."""

    check: str
    verdict: Verdict
    said: str
    todo: str = ""


class FurtherTemplate(msgspec.Struct, frozen=True, kw_only=True):
    """A launch template beside the default pool's."""

    pool: str
    arch: str
    logical_id: str
    image: str
    """As `Subject.image`."""


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be deployed, read from the generated template."""

    cluster_id: str
    region: str
    stack: str
    """The name of the service's stack."""
    subnet_ids: tuple[str, ...]
    security_group_ids: tuple[str, ...]
    image: str
    """An AMI id, or the name of the public parameter that names one."""
    further: tuple["FurtherTemplate", ...] = ()
    """Of the policy's other pools and architectures."""
    volume_key: str
    """The KMS key that the launch template names for the workers' volumes, by its ARN; empty: the account's default."""
    function_subnet_ids: tuple[str, ...]
    """Where the functions stand; none outside any VPC."""
    dual_stack: bool
    reserved_concurrency: int
    """Of all functions together."""
    rules: tuple[tuple[str, str], ...]
    """(name, event pattern as JSON)."""
    document: str
    """The node-command document's name, as the rules match it."""
    policy: Policy


class Account(Protocol):
    """The account and the network, as far as checks look at them: a test gives another one."""

    def client(self, service: str) -> Any:
        """An SDK client of the region."""
        ...

    def dual_stack_host(self, service: str) -> str:
        """The host of the service's dual-stack endpoint. Raises ValueError where the SDK knows none."""
        ...

    def has_ipv6(self, host: str) -> bool:
        """Whether the name has an IPv6 address. Raises OSError where it cannot be asked."""
        ...

    def status_of(self, method: str, url: str) -> int:
        """The HTTP status of an unauthenticated request. Raises OSError where nothing answers."""
        ...


Check = Callable[[Account, Subject], Sequence[Finding]]


class SubjectError(ValueError):
    """The template cannot be read; the message says what to do."""


def line_of(finding: Finding) -> str:
    """A finding for people, its mend below it."""
    todo = f"\n         -> {finding.todo}" if finding.todo else ""
    return f"{finding.verdict.value:<8} {finding.check}: {finding.said}{todo}"


def ok(check: str, said: str) -> Finding:
    """It works."""
    return Finding(check=check, verdict=Verdict.OK, said=said)


def warning(check: str, said: str, todo: str = "") -> Finding:
    """It may not work, or is not known."""
    return Finding(check=check, verdict=Verdict.WARNING, said=said, todo=todo)


def problem(check: str, said: str, todo: str) -> Finding:
    """It will not work."""
    return Finding(check=check, verdict=Verdict.PROBLEM, said=said, todo=todo)


def run_check(name: str, check: Check, account: Account, subject: Subject) -> Sequence[Finding]:
    """Run one check; what it may not ask is a warning with AWS' own words."""
    try:
        return check(account, subject)
    except ClientError as error:
        return [unknown(name, error)]
    except (BotoCoreError, OSError) as error:
        return [warning(name, f"not known: {type(error).__name__}: {in_one_line(str(error))}")]
    except UNREADABLE as error:
        return [warning(name, not_from_aws(error), NOT_FROM_AWS_TODO)]


def not_from_aws(error: Exception) -> str:
    """The answer did not read: in one line, without the page."""
    return f"not known: the answer was not what AWS documents ({type(error).__name__}: {in_one_line(str(error))[:120]})"


def stack_outputs(account: Account, subject: Subject) -> dict[str, str] | None:
    """The outputs of the service's stack; None where it is not deployed. Raises ClientError."""
    stack = find_stack(account.client("cloudformation"), subject.stack)
    return None if stack is None else {row["OutputKey"]: row["OutputValue"] for row in stack.get("Outputs", ())}


def unknown(name: str, error: ClientError) -> Finding:
    """AWS refused the question."""
    code = error_code(error)
    message = error_message(error)[:200]
    todo = "Run it with credentials that may read this, or look yourself." if code in DENIED else ""
    return warning(name, f"not known: AWS answered {code or 'an error without a code'}: {message}", todo)


def empty_account(*, region: str, policy: Policy) -> Subject:
    """What can be asked before there is anything to deploy: the cluster stack's functions will reach AWS by IPv6."""
    return Subject(
        cluster_id="",
        region=region,
        stack="",
        subnet_ids=(),
        security_group_ids=(),
        image="",
        volume_key="",
        function_subnet_ids=(),
        dual_stack=True,
        reserved_concurrency=0,
        rules=(),
        document="",
        policy=policy,
    )


def read_subject(path: str, *, region: str, policy: Policy) -> Subject:
    """Read the template that `sls package` wrote. Raises SubjectError."""
    try:
        template: Mapping[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
        resources: Mapping[str, Any] = template["Resources"]
        functions = [r["Properties"] for r in resources.values() if r["Type"] == FUNCTION]
        rules = [r["Properties"] for r in resources.values() if r["Type"] == RULE and "EventPattern" in r["Properties"]]
        launch = resources[FIRST_TEMPLATE]["Properties"]["LaunchTemplateData"]
        environment = functions[0]["Environment"]["Variables"]
        told = environment.get("POOL_LAUNCH_TEMPLATES") or {"Fn::Sub": ""}
        return Subject(
            cluster_id=environment["CLUSTER_ID"],
            region=region,
            stack=str(functions[0]["FunctionName"]).rpartition("-")[0],
            subnet_ids=_listed(environment["SUBNET_IDS"]),
            security_group_ids=_ids(launch["SecurityGroupIds"]),
            image=_image(launch["ImageId"], template),
            further=tuple(
                FurtherTemplate(
                    pool=pool,
                    arch=arch,
                    logical_id=name,
                    image=_image(resources[name]["Properties"]["LaunchTemplateData"]["ImageId"], template),
                )
                for pool, arch, name in _FURTHER.findall(told["Fn::Sub"])
            ),
            volume_key=_volume_key(launch["BlockDeviceMappings"]),
            function_subnet_ids=_ids(functions[0].get("VpcConfig", {}).get("SubnetIds", ())),
            dual_stack=str(environment["AWS_USE_DUALSTACK_ENDPOINT"]) == "true",
            reserved_concurrency=sum(int(f.get("ReservedConcurrentExecutions", 0)) for f in functions),
            rules=tuple((str(rule["Name"]), json.dumps(rule["EventPattern"])) for rule in rules),
            document=_document(rules),
            policy=policy,
        )
    except OSError as error:
        raise SubjectError(
            f"The template {path} cannot be read ({error.strerror}): run `npx sls package --stage <the cluster's "
            "stage>` first."
        ) from error
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise SubjectError(
            f"{path} is not the template that `npx sls package` writes ({error!r}): name "
            ".serverless/cloudformation-template-update-stack.json."
        ) from error


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part for part in text.split(",") if part)


def _ids(value: Any) -> tuple[str, ...]:
    return _listed(value["Fn::Split"][1]) if isinstance(value, Mapping) else tuple(value)


def _image(value: Any, template: Mapping[str, Any]) -> str:
    return str(template["Parameters"][value["Ref"]]["Default"]) if isinstance(value, Mapping) else str(value)


def _volume_key(devices: Sequence[Mapping[str, Any]]) -> str:
    (device,) = devices
    return str(device["Ebs"].get("KmsKeyId", ""))


def _document(rules: Sequence[Mapping[str, Any]]) -> str:
    names = [n for rule in rules for n in rule["EventPattern"].get("detail", {}).get("document-name", ())]
    return str(names[0])
