"""Whether workers' images have the processor of the policy's types: by their ids, of which packaging knows nothing."""

from collections.abc import Iterator, Sequence
from typing import Final

from botocore.exceptions import ClientError

from autoscaler.aws.failures import error_code
from autoscaler.cli.verify.checks import Account, Finding, Subject, ok, problem
from autoscaler.instance_types import arch_of
from autoscaler.pools import WorkerPool

NAME: Final = "workers' image"
TYPES_AT_ONCE: Final = 100
"""DescribeInstanceTypes takes no more (EC2 API reference)."""


def templates_of(subject: Subject) -> Iterator[tuple[str, str, WorkerPool, tuple[str, ...]]]:
    """(what it is called beside the first, image, pool, types) of every launch template."""
    first = subject.policy.default_pool
    yield "", subject.image, first, _types(first, first.archs[0])
    pools = {pool.name: pool for pool in subject.policy.pools}
    for one in subject.further:
        yield f" of pool {one.pool} ({one.arch})", one.image, pools[one.pool], _types(pools[one.pool], one.arch)


def check_image(account: Account, subject: Subject) -> Sequence[Finding]:
    """EC2's own words about each image and each type that starts from it."""
    return [finding for row in templates_of(subject) for finding in _judged(account, subject, *row)]


def image_id_of(account: Account, image: str) -> str:
    """The id that a public parameter names, or the id itself."""
    return str(account.client("ssm").get_parameter(Name=image)["Parameter"]["Value"]) if "/" in image else image


def _types(pool: WorkerPool, arch: str) -> tuple[str, ...]:
    return tuple(kind for kind in pool.instance_types if arch_of(kind) == arch)


def _judged(
    account: Account, subject: Subject, which: str, image: str, _pool: WorkerPool, types: tuple[str, ...]
) -> Iterator[Finding]:
    ec2 = account.client("ec2")
    name, image_id = f"{NAME}{which}", image_id_of(account, image)
    try:
        (row,) = ec2.describe_images(ImageIds=[image_id])["Images"]
    except ClientError as error:
        if not error_code(error).startswith("InvalidAMIID"):
            raise
        todo = "Name another in the pool's image." if which else "Name another with workerImageId."
        yield problem(name, f"there is no {image_id} in {subject.region}", todo)
        return
    architecture = row["Architecture"]
    for row in ec2.describe_instance_types(InstanceTypes=list(types[:TYPES_AT_ONCE]))["InstanceTypes"]:
        kind, supported = row["InstanceType"], row["ProcessorInfo"]["SupportedArchitectures"]
        if architecture in supported:
            yield ok(f"{name} on {kind}", f"{image_id} is {architecture}")
        else:
            todo = "Set workerImageId or workerImageParameter to an image of that architecture, or name other types."
            said = f"{image_id} is {architecture}, the type runs {' and '.join(supported)}"
            yield problem(f"{name} on {kind}", said, todo)
