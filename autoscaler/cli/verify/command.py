"""`k3s-autoscaler verify-aws`: asks an account, by DryRun and by reading, what no emulator can show.

Nothing is created or changed. Tested for its messages only (docs/deploy.md): what AWS answers, only AWS knows.
"""

import json
import os
import socket
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

import botocore.session
import msgspec
import requests
import typer
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ProfileNotFound

from autoscaler.cli.ending import FAILED, WRONG_INPUT, end
from autoscaler.cli.mends import mend_of
from autoscaler.cli.options import AsJson, Profile, Region
from autoscaler.cli.verify.account import (
    check_concurrency,
    check_dry_runs,
    check_identity,
    check_linked_roles,
    check_region,
)
from autoscaler.cli.verify.checks import (
    Account,
    Check,
    Finding,
    Subject,
    SubjectError,
    Verdict,
    empty_account,
    line_of,
    read_subject,
    run_check,
)
from autoscaler.cli.verify.deployer import check_deployer
from autoscaler.cli.verify.image import check_image
from autoscaler.cli.verify.keys import check_default_key, check_volume_key
from autoscaler.cli.verify.network import check_dynamodb_route, check_endpoints
from autoscaler.cli.verify.quotas import check_quotas
from autoscaler.cli.verify.roles import check_roles
from autoscaler.cli.verify.service import (
    check_http_api,
    check_parameters,
    check_rules,
    check_servers,
)
from autoscaler.policy import Policy
from autoscaler.policy_text import PolicyError
from autoscaler.runtime import read_policy

CHECKS: Final[dict[str, Check]] = {
    "credentials": check_identity,
    "deploy permissions": check_deployer,
    "DryRun launches": check_dry_runs,
    "roles": check_roles,
    "service-linked roles": check_linked_roles,
    "region": check_region,
    "workers' image": check_image,
    "default key for EBS": check_default_key,
    "key of the workers' volumes": check_volume_key,
    "quotas": check_quotas,
    "Lambda concurrency": check_concurrency,
    "dual-stack endpoints": check_endpoints,
    "way to DynamoDB": check_dynamodb_route,
    "event rules": check_rules,
    "HTTP API": check_http_api,
    "servers": check_servers,
    "parameters": check_parameters,
}
ACCOUNT_ONLY: Final = (
    "credentials",
    "deploy permissions",
    "service-linked roles",
    "default key for EBS",
    "quotas",
    "Lambda concurrency",
    "dual-stack endpoints",
)
"""What needs no subnet, no rule and no server: these can be asked of an empty account."""
RUNNING: Final = ("HTTP API", "servers", "parameters")
"""What a deployment may be what mends it."""
FIRST: Final = "credentials"
TEMPLATE: Final = ".serverless/cloudformation-template-update-stack.json"
TIMEOUT_S: Final = 10.0
EMULATOR: Final = "AWS_ENDPOINT_URL"
"""The SDK's own variable: something else answers in the place of AWS."""


class RealAccount:
    """The account that the caller's credentials open."""

    def __init__(self, session: botocore.session.Session, region: str) -> None:
        self._session = session
        self._region = region
        self._clients: dict[str, Any] = {}

    def client(self, service: str) -> Any:
        """An SDK client of the region."""
        if service not in self._clients:
            config = Config(connect_timeout=TIMEOUT_S, read_timeout=TIMEOUT_S, retries={"total_max_attempts": 3})
            self._clients[service] = self._session.create_client(service, region_name=self._region, config=config)
        return self._clients[service]

    def dual_stack_host(self, service: str) -> str:
        """The host of the service's dual-stack endpoint. Raises ValueError where the SDK knows none."""
        if EMULATOR in os.environ:
            raise OSError(f"{EMULATOR} stands for AWS here, whose own endpoints are not looked at")
        try:
            client = self._session.create_client(
                service, region_name=self._region, config=Config(use_dualstack_endpoint=True)
            )
        except BotoCoreError as error:
            raise ValueError(f"the SDK knows no dual-stack endpoint in {self._region}: {error}") from error
        return urlsplit(client.meta.endpoint_url).hostname or ""

    def has_ipv6(self, host: str) -> bool:
        """Whether the name has an IPv6 address. Raises OSError where it cannot be asked."""
        try:
            return bool(socket.getaddrinfo(host, 443, family=socket.AF_INET6, type=socket.SOCK_STREAM))
        except socket.gaierror as error:
            if error.errno in {socket.EAI_NONAME, socket.EAI_NODATA}:
                return False
            raise

    def status_of(self, method: str, url: str) -> int:
        """The HTTP status of an unauthenticated request. Raises OSError where nothing answers."""
        return requests.request(method, url, timeout=TIMEOUT_S, allow_redirects=False).status_code


def verify_aws(
    *,
    template: Annotated[
        str, typer.Option("--template", help="What `npx sls package --stage <stage>` wrote for this cluster.")
    ] = TEMPLATE,
    policy: Annotated[
        str, typer.Option("--policy", envvar="POLICY_FILE", help="The policy whose workers are to fit.")
    ] = "policy.yml",
    region: Region = "",
    profile: Profile = "",
    account_only: Annotated[
        bool, typer.Option("--account-only", help="Only what an empty account can be asked; no template is read.")
    ] = False,
    before_deployment: Annotated[
        bool, typer.Option("--before-deployment", help="Leave out what runs: deploying may be what mends it.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check an AWS account before or after a deployment: permissions, quotas, roles, endpoints, rules.

    Nothing is created or changed. Ends with 1 if something will not work.
    """
    session = botocore.session.Session(profile=profile or None)
    try:
        known_region = region or session.get_config_variable("region")
    except ProfileNotFound as error:
        end(f"{error}. {mend_of(type(error).__name__)}", WRONG_INPUT)
    if not known_region:
        end("No region is known: give --region, or set AWS_REGION.", WRONG_INPUT)
    try:
        subject = (
            empty_account(region=known_region, policy=_policy(policy))
            if account_only
            else read_subject(template, region=known_region, policy=_policy(policy))
        )
    except SubjectError as error:
        end(str(error), WRONG_INPUT)
    if session.get_credentials() is None:
        end("There are no AWS credentials: set them (AWS_PROFILE, or a role), then run this again.", FAILED)
    names = ACCOUNT_ONLY if account_only else tuple(CHECKS)
    if before_deployment:
        names = tuple(name for name in names if name not in RUNNING)
    account = RealAccount(session, known_region)
    raise typer.Exit(conduct(account, subject, as_json=as_json, tell=typer.echo, names=names))


def conduct(
    account: Account,
    subject: Subject,
    *,
    as_json: bool,
    tell: Callable[[str], None],
    names: Sequence[str] = tuple(CHECKS),
) -> int:
    """Run the named checks and tell; returns the exit code."""
    findings: list[Finding] = []
    for name in names:
        found = run_check(name, CHECKS[name], account, subject)
        findings += found
        if not as_json:
            for finding in found:
                tell(line_of(finding))
        if name == FIRST and any(finding.verdict is Verdict.PROBLEM for finding in found):
            break
    counts = Counter(finding.verdict for finding in findings)
    if as_json:
        document = {
            "cluster_id": subject.cluster_id,
            "region": subject.region,
            "counts": {verdict.value: counts[verdict] for verdict in Verdict},
            "findings": msgspec.to_builtins(findings),
        }
        tell(json.dumps(document, indent=2))
    else:
        tell(_summary(findings, subject))
    return FAILED if counts[Verdict.PROBLEM] else 0


def _summary(findings: Sequence[Finding], subject: Subject) -> str:
    counts = Counter(finding.verdict for finding in findings)
    problems, warnings = counts[Verdict.PROBLEM], counts[Verdict.WARNING]
    where = f"{subject.cluster_id or 'this account'} in {subject.region}"
    if problems:
        return f"\n{where}: {problems} problem(s), {warnings} warning(s). Mend the problems before you deploy."
    return f"\n{where}: no problem, {warnings} warning(s)."


def _policy(path: str) -> Policy:
    if not Path(path).is_file():
        end(f"There is no policy {path}: name the one that is to be deployed with --policy.", WRONG_INPUT)
    try:
        return read_policy(path)
    except PolicyError as error:
        end(str(error), WRONG_INPUT)
