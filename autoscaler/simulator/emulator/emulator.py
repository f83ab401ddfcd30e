"""AWS by moto in this process, and a simulated K3s cluster whose machines are the EC2 instances that moto holds.

`python -m autoscaler.simulator.emulator.emulator --cluster demo` binds two ports of the loopback interface, ephemeral
unless they are given: AWS, and the cluster (`http.py`). One JSON line on standard output says that it is ready, and
where. Everything is in memory and gone when it ends.
"""

import argparse
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

import boto3
import msgspec
from botocore.config import Config
from moto.moto_server.werkzeug_app import MotoRequestHandler
from werkzeug.serving import make_server

from autoscaler.model import CLUSTER_TAG, ROLE_TAG
from autoscaler.policy_files import load_policy
from autoscaler.simulator.emulator.events import EventBus
from autoscaler.simulator.emulator.http import ClusterServer
from autoscaler.simulator.emulator.moto import (
    OWN_AGENT,
    CallLog,
    aws_application,
    mend_cloudformation,
    mend_run_command,
)
from autoscaler.simulator.emulator.network import mend_network
from autoscaler.simulator.realtime import RealTimeCluster, fixed_node
from autoscaler.simulator.world.world import WorldSettings

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client
    from mypy_boto3_ec2.type_defs import TagTypeDef

LOOPBACK: Final = "127.0.0.1"
SERVER_TYPE: Final = "t3.medium"
STATIC_WORKER_TYPE: Final = "t3.small"
IMAGE_PARAMETER: Final = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64"


class Ready(msgspec.Struct, frozen=True, kw_only=True):
    """What the ready line says."""

    aws_url: str
    cluster_url: str
    region: str
    vpc_id: str
    subnet_ids: tuple[str, ...]
    security_group_id: str
    server_instance_id: str


@dataclass(frozen=True, kw_only=True)
class Network:
    """Where machines stand."""

    vpc_id: str
    subnet_ids: tuple[str, ...]
    security_group_id: str


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until a signal ends it."""
    options = _parse(arguments)
    for name, value in _fake_account(options.region).items():
        os.environ[name] = value
    mend_cloudformation()
    mend_network()
    bus, calls = EventBus(), CallLog()
    aws = make_server(LOOPBACK, options.port, aws_application(calls), threaded=True, request_handler=QuietHandler)
    aws_url = f"http://{LOOPBACK}:{aws.server_port}"
    threading.Thread(target=aws.serve_forever, name="aws", daemon=True).start()

    ec2 = _client("ec2", aws_url, options.region)
    network = _create_network(ec2, options.region)
    image_id = _image_id(aws_url, options.region)
    server_id = _launch(ec2, network, image_id, options.cluster, SERVER_TYPE, count=1, role="server")[0]
    _launch(ec2, network, image_id, options.cluster, STATIC_WORKER_TYPE, count=options.static_workers, role="")

    settings = WorldSettings(
        cluster_id=options.cluster,
        boot_s=(options.boot_s, options.boot_s * 1.2),
        ready_s=options.ready_s,
        monitor_grace_s=options.monitor_grace_s,
        fixed_nodes=tuple(
            fixed_node(row, server=row["InstanceId"] == server_id) for row in _describe(ec2, options.cluster)
        ),
        seed=options.seed,
    )
    cluster = RealTimeCluster(
        settings,
        region=options.region,
        describe=lambda: _describe(ec2, options.cluster),
        bus=bus,
        clock=time.time,
        policy=load_policy(options.policy, named_by="with --policy") if options.policy else None,
    )
    mend_run_command(cluster)
    cluster.start()
    server = ClusterServer(cluster, calls=calls, bus=bus, port=options.cluster_port)
    server.start()
    ready = Ready(
        aws_url=aws_url,
        cluster_url=server.url,
        region=options.region,
        vpc_id=network.vpc_id,
        subnet_ids=network.subnet_ids,
        security_group_id=network.security_group_id,
        server_instance_id=server_id,
    )
    sys.stdout.write(msgspec.json.encode(ready).decode() + "\n")
    sys.stdout.flush()
    _wait_for_signal()


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m autoscaler.simulator.emulator.emulator", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="port of AWS; 0 = any free one")
    parser.add_argument("--cluster-port", type=int, default=0, help="port of the cluster; 0 = any free one")
    parser.add_argument("--cluster", default="demo", help="the cluster's id, as in the service's clusterId")
    parser.add_argument("--region", default="eu-central-1")
    parser.add_argument("--static-workers", type=int, default=0, help="workers that nobody may remove")
    parser.add_argument(
        "--boot-s", type=float, default=20.0, help="from launch until the Node exists, and up to a fifth more"
    )
    parser.add_argument("--ready-s", type=float, default=5.0, help="from there until it is Ready")
    parser.add_argument("--monitor-grace-s", type=float, default=40.0, help="from a machine's death until NotReady")
    parser.add_argument("--policy", type=Path, help="answer the queries of this policy too, for GET /recorded")
    parser.add_argument("--seed", type=int, default=1, help="of the simulated cluster's dice")
    return parser.parse_args(arguments)


def _fake_account(region: str) -> dict[str, str]:
    """Nothing of the user's AWS configuration is looked at."""
    return {
        "AWS_ACCESS_KEY_ID": "emulated",
        "AWS_SECRET_ACCESS_KEY": "emulated",
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def _client(service: str, aws_url: str, region: str) -> Any:
    config = Config(retries={"total_max_attempts": 1}, proxies={}, user_agent_extra=OWN_AGENT)
    return boto3.client(service, endpoint_url=aws_url, region_name=region, config=config)  # type: ignore[call-overload] # the name is a variable


def _create_network(ec2: "EC2Client", region: str) -> Network:
    vpc_id = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    subnet_ids = tuple(
        ec2.create_subnet(VpcId=vpc_id, CidrBlock=f"10.0.{number}.0/24", AvailabilityZone=f"{region}{zone}")["Subnet"][
            "SubnetId"
        ]
        for number, zone in ((1, "a"), (2, "b"))
    )
    group = ec2.create_security_group(GroupName="k3s", Description="K3s nodes", VpcId=vpc_id)
    return Network(vpc_id=vpc_id, subnet_ids=subnet_ids, security_group_id=group["GroupId"])


def _image_id(aws_url: str, region: str) -> str:
    value = _client("ssm", aws_url, region).get_parameter(Name=IMAGE_PARAMETER)["Parameter"]["Value"]
    return str(value)


def _launch(
    ec2: "EC2Client", network: Network, image_id: str, cluster: str, kind: Any, *, count: int, role: str
) -> list[str]:
    tags: list[TagTypeDef] = [
        {"Key": CLUSTER_TAG, "Value": cluster},
        {"Key": "Name", "Value": f"k3s-{role or 'static'}-{cluster}"},
    ]
    if role:
        tags.append({"Key": ROLE_TAG, "Value": role})
    ids = []
    for number in range(count):
        answer = ec2.run_instances(
            ImageId=image_id,
            InstanceType=kind,
            MinCount=1,
            MaxCount=1,
            SubnetId=network.subnet_ids[number % len(network.subnet_ids)],
            TagSpecifications=[{"ResourceType": "instance", "Tags": tags}],
        )
        ids.append(answer["Instances"][0]["InstanceId"])
    return ids


def _describe(ec2: "EC2Client", cluster: str) -> list[dict[str, Any]]:
    pages = ec2.get_paginator("describe_instances").paginate(
        Filters=[{"Name": f"tag:{CLUSTER_TAG}", "Values": [cluster]}]
    )
    return [dict(row) for page in pages for reservation in page["Reservations"] for row in reservation["Instances"]]


class QuietHandler(MotoRequestHandler):
    """moto's own, without a line for every request: the call log knows."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Say nothing."""


def _wait_for_signal() -> None:
    ended = threading.Event()

    def end(_number: int, _frame: FrameType | None) -> None:
        ended.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    ended.wait()


if __name__ == "__main__":
    main()
