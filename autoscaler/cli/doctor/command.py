"""`k3s-autoscaler doctor`: one list of findings about a deployed service, each with its mend. Nothing is changed.

First what the function tells from where it stands, then what the account shows from here.
"""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import requests
import typer
from botocore.exceptions import NoRegionError

from autoscaler.aws.clients import Clients
from autoscaler.cli.asked import CannotTell, Unanswered, answer_of
from autoscaler.cli.doctor import inside, today
from autoscaler.cli.doctor.around import ARTIFACT, check_alarms, check_code, check_schedule, check_watchdog
from autoscaler.cli.doctor.deployed import deployed_subject
from autoscaler.cli.ending import FAILED, WRONG_INPUT, end, told
from autoscaler.cli.options import AsJson
from autoscaler.cli.target import Target, aimed_without_table
from autoscaler.cli.verify.account import check_concurrency, check_identity, check_linked_roles, check_region
from autoscaler.cli.verify.checks import (
    Account,
    Check,
    Finding,
    Subject,
    Verdict,
    empty_account,
    line_of,
    problem,
    run_check,
    warning,
)
from autoscaler.cli.verify.image import check_image
from autoscaler.cli.verify.network import check_dynamodb_route
from autoscaler.cli.verify.quotas import check_quotas
from autoscaler.cli.verify.roles import check_roles
from autoscaler.cli.verify.service import check_http_api, check_parameters, check_servers
from autoscaler.deploy.rules import TEMPLATES, Settings, rules_mark
from autoscaler.policy import Policy, policy_hash
from autoscaler.policy_text import PolicyError
from autoscaler.runtime import read_policy

TIMEOUT_S: Final = 10.0
IDENTITY: Final = "credentials"
_LONGEST_TOLD: Final = 200
"""Characters of what is wrong with a policy; `validate` tells all."""
CHECKS: Final[Mapping[str, Check]] = {
    "schedule of the sweep": check_schedule,
    "HTTP API": check_http_api,
    "Watchdog": check_watchdog,
    "alarms": check_alarms,
    "servers": check_servers,
    "parameters": check_parameters,
    "roles": check_roles,
    "service-linked roles": check_linked_roles,
    "quotas": check_quotas,
    "Lambda concurrency": check_concurrency,
    "region": check_region,
    "workers' image": check_image,
    "way to DynamoDB": check_dynamodb_route,
}
"""What the account shows; those of `verify-aws` look at what is deployed instead of at a template."""

Ask = Callable[[str], Mapping[str, Any]]
"""The deployed function's answer to a question. Raises Unanswered, CannotTell."""


class TargetAccount:
    """The account of a command's target, as the checks of `verify-aws` look at one."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients

    def client(self, service: str) -> Any:
        """An SDK client of the target's region."""
        return self._clients.client(service, TIMEOUT_S)

    def status_of(self, method: str, url: str) -> int:
        """The HTTP status of a request without a token. Raises OSError where nothing answers."""
        return requests.request(method, url, timeout=TIMEOUT_S, allow_redirects=False).status_code

    def dual_stack_host(self, service: str) -> str:
        """Not asked here: the function's own calls have shown the way."""
        raise OSError(f"the address of {service} is not looked at")

    def has_ipv6(self, host: str) -> bool:
        """Not asked here."""
        raise OSError(f"{host} is not looked at")


@aimed_without_table
def doctor(
    *,
    target: Target,
    policy: Annotated[
        str, typer.Option("--policy", envvar="POLICY_FILE", help="The policy file that is deployed, to compare.")
    ] = "policy.yml",
    as_json: AsJson = False,
) -> None:
    """Say what is wrong with a deployed autoscaler, and what mends it.

    The function is asked what it reaches and which rules it reads, then the account: token, route, alerts, servers,
    roles, quotas, versions. Nothing is changed. Ends with 1 if something is a problem.
    """
    local, why_not = _policy(policy)
    account = TargetAccount(target.clients)
    with told():
        stage = target.known_stage
    found = examine(
        account,
        lambda question: answer_of(target, question),
        stage=stage,
        region=_region(target),
        policy=local,
        policy_file=policy,
        no_policy=why_not,
    )
    raise typer.Exit(report(found, target.cluster_id, as_json=as_json, tell=typer.echo))


def examine(
    account: Account,
    ask: Ask,
    *,
    stage: str,
    region: str,
    policy: Policy | None,
    policy_file: str,
    no_policy: str = "",
    artifact: Path = ARTIFACT,
    now_s: Callable[[], float] = time.time,
) -> Iterator[Finding]:
    """Every finding, as soon as it is known.

    `policy`: the file's, None where there is none, for the reason `no_policy`; `artifact`: what was built here.
    """
    nobody = empty_account(region=region, policy=policy or Policy(version=1))
    who = run_check(IDENTITY, check_identity, account, nobody)
    yield from who
    if any(finding.verdict is Verdict.PROBLEM for finding in who):
        return
    in_force = nobody.policy
    try:
        reach = ask("reach")
        deployed, in_force = inside.policies_of(reach)
        expected = inside.Expected(
            now_s=int(now_s()),
            policy_file=policy_file,
            policy_hash=policy_hash(policy) if policy is not None else None,
            no_policy=no_policy,
            marks=_marks((deployed, in_force)),
        )
        yield from inside.findings_of(reach, expected)
        yield from today.findings_of(ask("next"))
    except Unanswered as error:
        yield problem("function", str(error), "Do that and run this again; what follows is what the account shows.")
    except CannotTell as error:
        yield problem("function", str(error), "Mend what the findings above name, and run this again.")
    except (ValueError, KeyError, TypeError) as error:
        said = f"the function's answer is not of this version ({type(error).__name__}: {error})"
        yield problem("function", said, "Deploy this version, or run the command line of the deployed one.")
    subjects: list[Subject] = []

    def read(given: Account, _: Subject) -> Sequence[Finding]:
        subjects.append(deployed_subject(given, stage=stage, region=region, policy=in_force))
        return ()

    yield from run_check("deployed service", read, account, nobody)
    if not subjects:
        todo = "Check --stage and --region, and what doctor needs (docs/deploy.md, What the commands need)."
        yield warning("account", "not looked at: what is deployed could not be read", todo)
    for subject in subjects:
        for name, check in CHECKS.items():
            yield from run_check(name, check, account, subject)
        yield from run_check("version of the code", partial(check_code, artifact), account, subject)


def report(found: Iterator[Finding], cluster_id: str, *, as_json: bool, tell: Callable[[str], None]) -> int:
    """Tell each finding as it comes, or all as JSON; returns the exit code."""
    findings: list[Finding] = []
    for finding in found:
        findings.append(finding)
        if not as_json:
            tell(line_of(finding))
    counts = Counter(finding.verdict for finding in findings)
    problems, warnings = counts[Verdict.PROBLEM], counts[Verdict.WARNING]
    if as_json:
        document = {
            "cluster_id": cluster_id,
            "counts": {verdict.value: counts[verdict] for verdict in Verdict},
            "findings": msgspec.to_builtins(findings),
        }
        tell(json.dumps(document, indent=2))
    else:
        tell(f"\n{cluster_id}: {problems or 'no'} problem(s), {warnings or 'no'} warning(s).")
    return FAILED if problems else 0


def _marks(of_function: Sequence[Policy]) -> frozenset[str] | None:
    """Of rules that may be loaded: of the policy as deployed or as it holds, for a Prometheus of one cluster too."""
    if not TEMPLATES.is_dir():
        return None
    settings = (Settings(local=False), Settings(local=True))
    return frozenset(rules_mark(policy, which) for policy in of_function for which in settings)


def _region(target: Target) -> str:
    try:
        return str(target.clients.client("sts").meta.region_name)
    except NoRegionError:
        end("No AWS region is known: give --region (or AWS_REGION).", WRONG_INPUT)


def _policy(path: str) -> tuple[Policy | None, str]:
    """The policy of the file, or why there is none: the rest is looked at all the same."""
    if not Path(path).is_file():
        return None, f"there is no {path} here to compare"
    try:
        return read_policy(path), ""
    except PolicyError as error:
        return None, f"{path} here is not valid ({str(error)[:_LONGEST_TOLD]})"
