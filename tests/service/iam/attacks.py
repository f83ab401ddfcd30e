"""What somebody with a role of ours might try, and what IAM answers.

`ATTACKS` is the table of docs/security.md; `test_attacks.py` holds policies, table and document together.
"""

from dataclasses import dataclass

from tests.service.conftest import EVERY_PART
from tests.service.iam.attempts import (
    CLUSTER,
    ROLE,
    Make,
    call,
    command,
    fleet,
    item,
    other_template,
    overriding,
    own_user_data,
    run,
    tagged,
)
from tests.service.iam.calls import SERVER, WORKER
from tests.service.iam.evaluator import Answer

STRANGER, OTHER_WORKER, OTHER_SERVER = "i-0f0f0f0f0f0f0f0f0", "i-0e0e0e0e0e0e0e0e0", "i-0d0d0d0d0d0d0d0d0"
OTHER_ROLE = "arn:aws:iam::111122223333:role/admin"
OTHER_PROFILE = "arn:aws:iam::111122223333:instance-profile/admin"
OTHER_MACHINES: dict[str, dict[str, str]] = {
    STRANGER: {"Name": "database"},
    OTHER_WORKER: {"ManagedBy": "autoscaler", CLUSTER: "other"},
    OTHER_SERVER: {CLUSTER: "other", ROLE: "server"},
}


@dataclass(frozen=True)
class Attack:
    """One thing to try with a role."""

    name: str
    role: str
    make: Make
    answer: Answer = Answer.DENIED


SNAPSHOT = [{"DeviceName": "/dev/sdg", "Ebs": {"SnapshotId": "snap-0f0f0f0f0f0f0f0f0"}}]
KEY = EVERY_PART["workerVolumeKeyArn"]
OTHER_KEY = KEY.rpartition("/")[0] + "/0f0f0f0f-0f0f-0f0f-0f0f-0f0f0f0f0f0f"
DISK = [{"DeviceName": "/dev/xvda", "Ebs": {"Encrypted": True, "KmsKeyId": OTHER_KEY}}]
OTHER_IMAGE, OTHER_GROUP, OTHER_SUBNET = "ami-0f0f0f0f0f0f0f0f0", "sg-0f0f0f0f0f0f0f0f0", "subnet-0f0f0f0f0f0f0f0f0"
INTERFACE = [{"DeviceIndex": 0, "NetworkInterfaceId": "eni-0f0f0f0f0f0f0f0f0"}]
STATE = {"cluster_id": {"S": "other"}, "record": {"S": "STATE"}}
RECORD = {"id": {"S": "webhook#1"}}
SWEEP, WORKERS, SERVERS = "SweepRole", "WorkerRole", "ServerRole"
ALLOWED, FORBIDDEN = Answer.ALLOWED, Answer.FORBIDDEN

ATTACKS = (
    # Launches through a fleet
    Attack("launch from another launch template", SWEEP, fleet(other_template)),
    Attack("override the image", SWEEP, overriding(ImageId=OTHER_IMAGE)),
    Attack("override the subnet with one that is not the workers'", SWEEP, overriding(SubnetId=OTHER_SUBNET)),
    Attack(
        "override the instance profile: pass another role", SWEEP, overriding(IamInstanceProfile={"Arn": OTHER_PROFILE})
    ),
    Attack("add a disk made of somebody's snapshot", SWEEP, overriding(BlockDeviceMappings=SNAPSHOT)),
    Attack("encrypt the disk with another key", SWEEP, overriding(BlockDeviceMappings=DISK)),
    Attack("add a key pair", SWEEP, overriding(KeyName="mine")),
    Attack("launch into a placement group", SWEEP, overriding(Placement={"GroupName": "theirs"})),
    Attack("launch what is tagged as a server", SWEEP, tagged(**{"k3s-autoscaler__role": "server"})),
    Attack("launch what is tagged as another cluster's", SWEEP, tagged(**{"k3s-autoscaler__cluster": "other"})),
    Attack("launch what is not tagged as managed", SWEEP, tagged(ManagedBy="")),
    Attack("launch with a tag that means something to others", SWEEP, tagged(**{"kubernetes.io__cluster__x": "owned"})),
    Attack("launch with user data of its own", SWEEP, fleet(own_user_data), ALLOWED),
    # Launches without one
    Attack("run the template with another image", SWEEP, run(template=True, ImageId=OTHER_IMAGE)),
    Attack("run the template in other security groups", SWEEP, run(template=True, SecurityGroupIds=[OTHER_GROUP])),
    Attack(
        "run the template with a disk of somebody's snapshot", SWEEP, run(template=True, BlockDeviceMappings=SNAPSHOT)
    ),
    Attack(
        "run the template on an interface that exists, such as the server's",
        SWEEP,
        run(template=True, SubnetId=None, NetworkInterfaces=INTERFACE),
    ),
    Attack("run a machine without a template: another image", SWEEP, run(template=False, ImageId=OTHER_IMAGE)),
    Attack(
        "run a machine without a template: other security groups",
        SWEEP,
        run(template=False, SecurityGroupIds=[OTHER_GROUP]),
    ),
    Attack(
        "run a machine without a template: another role",
        SWEEP,
        run(template=False, IamInstanceProfile={"Arn": OTHER_PROFILE}),
    ),
    Attack("run a machine without a template: no tags", SWEEP, run(template=False, TagSpecifications=None)),
    Attack("run a machine without a template that is a worker in all of these", SWEEP, run(template=False), ALLOWED),
    Attack("run the template itself, without a fleet", SWEEP, run(template=True), ALLOWED),
    # What exists
    Attack(
        "tag a machine as ours, to terminate it then",
        SWEEP,
        call(
            "ec2:CreateTags",
            Resources=[STRANGER],
            Tags=[{"Key": "ManagedBy", "Value": "autoscaler"}, {"Key": CLUSTER, "Value": "shop"}],
        ),
    ),
    Attack(
        "tag a worker as a server",
        SWEEP,
        call("ec2:CreateTags", Resources=[WORKER], Tags=[{"Key": ROLE, "Value": "server"}]),
    ),
    Attack("terminate the server", SWEEP, call("ec2:TerminateInstances", InstanceIds=[SERVER])),
    Attack("terminate another cluster's worker", SWEEP, call("ec2:TerminateInstances", InstanceIds=[OTHER_WORKER])),
    Attack("terminate any other machine", SWEEP, call("ec2:TerminateInstances", InstanceIds=[STRANGER])),
    Attack(
        "terminate a worker of ours, undrained", SWEEP, call("ec2:TerminateInstances", InstanceIds=[WORKER]), ALLOWED
    ),
    Attack("run a shell on the server by AWS-RunShellScript", SWEEP, command(SERVER, document="AWS-RunShellScript")),
    Attack("send the node command to another cluster's server", SWEEP, command(OTHER_SERVER)),
    Attack("send the node command to a worker", SWEEP, command(WORKER)),
    Attack("send the node command to any other machine", SWEEP, command(STRANGER)),
    Attack("send the node command, with any arguments, to our server", SWEEP, command(SERVER), ALLOWED),
    # The key of the workers' volumes
    Attack(
        "decrypt with the volumes' key, without EC2",
        SWEEP,
        call("kms:Decrypt", KeyId=KEY, CiphertextBlob=b"a data key"),
    ),
    Attack(
        "grant somebody the volumes' key, without EC2",
        SWEEP,
        call("kms:CreateGrant", KeyId=KEY, GranteePrincipal=OTHER_ROLE, Operations=["Decrypt"]),
    ),
    Attack("delete the volumes' key", SWEEP, call("kms:ScheduleKeyDeletion", KeyId=KEY)),
    # Data
    Attack("read the token that workers join with", SWEEP, call("ssm:GetParameter", Name="/k3s/shop/agent-token")),
    Attack(
        "read the webhook's token, but for the function `alerts`",
        SWEEP,
        call("ssm:GetParameter", Name="/k3s/shop/webhook-token"),
    ),
    Attack("read another cluster's parameters", SWEEP, call("ssm:GetParameter", Name="/k3s/other/prometheus-auth")),
    Attack("change the policy live", SWEEP, call("ssm:PutParameter", Name="/k3s/shop/policy")),
    Attack("write the address that workers join", SWEEP, call("ssm:PutParameter", Name="/k3s/shop/server-url")),
    Attack("read another cluster's state, were it in our table", SWEEP, item("dynamodb:GetItem", "StateTable", STATE)),
    Attack("write another cluster's state, were it in our table", SWEEP, item("dynamodb:PutItem", "StateTable", STATE)),
    Attack(
        "write another table",
        SWEEP,
        item("dynamodb:PutItem", "other-StateTable", STATE | {"cluster_id": {"S": "shop"}}),
    ),
    Attack("delete the state", SWEEP, item("dynamodb:DeleteItem", "StateTable", STATE | {"cluster_id": {"S": "shop"}})),
    Attack(
        "forget a webhook, but for the function `alerts`",
        SWEEP,
        item("dynamodb:DeleteItem", "IdempotencyTable", RECORD),
    ),
    Attack(
        "publish to another topic", SWEEP, call("sns:Publish", TopicArn="arn:aws:sns:eu-central-1:111122223333:other")
    ),
    # Machines
    Attack(
        "a worker: read the webhook's token",
        WORKERS,
        call("ssm:GetParameter", Name="/k3s/shop/webhook-token"),
        FORBIDDEN,
    ),
    Attack(
        "a worker: read Prometheus' credentials",
        WORKERS,
        call("ssm:GetParameters", Names=["/k3s/shop/prometheus-auth"]),
        FORBIDDEN,
    ),
    Attack(
        "a worker: write the address that workers join", WORKERS, call("ssm:PutParameter", Name="/k3s/shop/server-url")
    ),
    Attack("a worker: terminate a worker", WORKERS, call("ec2:TerminateInstances", InstanceIds=[WORKER])),
    Attack("a worker: send a command", WORKERS, command(SERVER)),
    Attack(
        "a worker: decrypt with the volumes' key", WORKERS, call("kms:Decrypt", KeyId=KEY, CiphertextBlob=b"a data key")
    ),
    Attack(
        "a worker: read the token that workers join with",
        WORKERS,
        call("ssm:GetParameter", Name="/k3s/shop/agent-token"),
        ALLOWED,
    ),
    Attack(
        "the server: read another cluster's parameters",
        SERVERS,
        call("ssm:GetParameter", Name="/k3s/other/agent-token"),
        FORBIDDEN,
    ),
    Attack("the server: change its own manifests", SERVERS, call("ssm:PutParameter", Name="/k3s/shop/bundle/00")),
    Attack("the server: change the webhook's token", SERVERS, call("ssm:PutParameter", Name="/k3s/shop/webhook-token")),
    Attack("the server: launch a machine", SERVERS, run(template=False)),
)
