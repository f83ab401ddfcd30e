"""The emulated AWS account: its environment, its clients, and the service deployed to it with `sls deploy`."""

import io
import os
import secrets
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import boto3
from boto3.dynamodb.types import TypeDeserializer
from botocore.config import Config

from autoscaler.model import CLUSTER_TAG
from autoscaler.simulator.emulator.emulator import Ready
from autoscaler.simulator.stack.processes import StackError, Supervisor, repository_root

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client

STAGE: Final = "local"
SERVICE: Final = "k3s-autoscaler"
OWN_CODE: Final = ("autoscaler/", "handlers/")
DEPLOY_TIMEOUT_S: Final = 180.0


@dataclass(frozen=True, kw_only=True)
class DeployedFunction:
    """A function as Lambda knows it: CloudFormation has resolved every reference in its environment."""

    key: str
    name: str
    handler: str
    timeout_s: int
    memory_mb: int
    environment: Mapping[str, str]


def plain_environment() -> dict[str, str]:
    """This process' environment without anything of the user's AWS, and with no proxy before the loopback interface."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "SLS_", "SERVERLESS_"))}
    return kept | {"NO_PROXY": "127.0.0.1,localhost", "no_proxy": "127.0.0.1,localhost"}


def aws_environment(emulator: Ready) -> dict[str, str]:
    """What makes any AWS SDK talk to the emulator and to nobody else."""
    return plain_environment() | {
        "AWS_ENDPOINT_URL": emulator.aws_url,
        "AWS_ACCESS_KEY_ID": "emulated",
        "AWS_SECRET_ACCESS_KEY": "emulated",
        "AWS_REGION": emulator.region,
        "AWS_DEFAULT_REGION": emulator.region,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "SLS_AWS_MONITORING_FREQUENCY": "200",
        "SLS_NOTIFICATIONS_MODE": "off",
        "SLS_TRACKING_DISABLED": "1",
        "SLS_INTERACTIVE_SETUP_ENABLE": "0",
    }


def serverless_program() -> str:
    """The path of `sls`. Raises StackError where `npm ci` was not run."""
    path = repository_root() / "node_modules" / ".bin" / "sls"
    if not path.exists():
        raise StackError("The Serverless Framework is not installed: run `npm ci` in the project folder first.")
    return str(path)


class Account:
    """What tests and the demo ask of the emulated account, over the loopback interface."""

    def __init__(self, emulator: Ready, cluster_id: str) -> None:
        self.emulator = emulator
        self.cluster_id = cluster_id
        self._clients: dict[str, Any] = {}

    def client(self, service: str) -> Any:
        """A client of the emulator."""
        if service not in self._clients:
            self._clients[service] = boto3.client(  # type: ignore[call-overload] # the name is a variable
                service,
                endpoint_url=self.emulator.aws_url,
                region_name=self.emulator.region,
                aws_access_key_id="emulated",
                aws_secret_access_key="emulated",  # noqa: S106 - moto takes anything
                config=Config(proxies={}, retries={"total_max_attempts": 2}),
            )
        return self._clients[service]

    def deploy(self, supervisor: Supervisor, *, prometheus_url: str) -> None:
        """Run `sls deploy`. Raises StackError with its last words."""
        parameters = {
            "clusterId": self.cluster_id,
            "prometheusUrl": prometheus_url,
            "workerSubnetIds": ",".join(self.emulator.subnet_ids),
            "workerSecurityGroupIds": self.emulator.security_group_id,
        }
        command = [serverless_program(), "deploy", "--stage", STAGE, "--region", self.emulator.region]
        command += [f"--param={name}={value}" for name, value in parameters.items()]
        supervisor.run("sls-deploy", command, env=aws_environment(self.emulator), timeout_s=DEPLOY_TIMEOUT_S)

    def outputs(self) -> dict[str, str]:
        """The stack's outputs."""
        stacks = self.client("cloudformation").describe_stacks(StackName=f"{SERVICE}-{STAGE}")["Stacks"]
        return {output["OutputKey"]: output["OutputValue"] for output in stacks[0].get("Outputs", [])}

    def functions(self) -> list[DeployedFunction]:
        """The functions of the service."""
        prefix = f"{SERVICE}-{STAGE}-"
        return [
            DeployedFunction(
                key=row["FunctionName"].removeprefix(prefix),
                name=row["FunctionName"],
                handler=row["Handler"],
                timeout_s=row["Timeout"],
                memory_mb=row["MemorySize"],
                environment=row.get("Environment", {}).get("Variables", {}),
            )
            for row in self.client("lambda").list_functions()["Functions"]
            if row["FunctionName"].startswith(prefix)
        ]

    def unpack_code(self, folder: Path) -> None:
        """Unpack the project's own part of the deployed artifact: the packages beside it are made for Lambda's machine.

        Raises StackError where the deployment bucket has no artifact.
        """
        s3, bucket = self.client("s3"), self.outputs()["ServerlessDeploymentBucketName"]
        keys = [row["Key"] for row in s3.list_objects_v2(Bucket=bucket).get("Contents", ())]
        newest = max((key for key in keys if key.endswith(".zip")), default=None)
        if newest is None:
            raise StackError(f"sls deploy left no artifact in the bucket {bucket}: see sls-deploy.log.")
        with zipfile.ZipFile(io.BytesIO(s3.get_object(Bucket=bucket, Key=newest)["Body"].read())) as artifact:
            artifact.extractall(folder, [name for name in artifact.namelist() if name.startswith(OWN_CODE)])

    def create_webhook_token(self, parameter: str) -> str:
        """Store a fresh token where the service looks for it; returns it."""
        token = secrets.token_urlsafe(32)
        self.client("ssm").put_parameter(Name=parameter, Value=token, Type="SecureString", Overwrite=True)
        return token

    def instances(self) -> list[dict[str, Any]]:
        """The raw DescribeInstances rows of the cluster, dead ones too."""
        ec2: EC2Client = self.client("ec2")
        filters: Any = [{"Name": f"tag:{CLUSTER_TAG}", "Values": [self.cluster_id]}]
        pages = ec2.get_paginator("describe_instances").paginate(Filters=filters)
        return [dict(row) for page in pages for reservation in page["Reservations"] for row in reservation["Instances"]]

    def records(self, table: str) -> list[dict[str, Any]]:
        """Every record of the cluster in the state table, as plain values."""
        pages = (
            self.client("dynamodb")
            .get_paginator("query")
            .paginate(
                TableName=table,
                KeyConditionExpression="cluster_id = :cluster",
                ExpressionAttributeValues={":cluster": {"S": self.cluster_id}},
                ConsistentRead=True,
            )
        )
        decode = TypeDeserializer().deserialize
        return [{name: decode(value) for name, value in row.items()} for page in pages for row in page["Items"]]
