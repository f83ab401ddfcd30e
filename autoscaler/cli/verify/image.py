"""Whether the workers' image has the processor of the policy's types: by its id, of which packaging knows nothing."""

from collections.abc import Sequence
from typing import Final

from botocore.exceptions import ClientError

from autoscaler.aws.failures import error_code
from autoscaler.cli.verify.checks import Account, Finding, Subject, ok, problem

NAME: Final = "workers' image"


def check_image(account: Account, subject: Subject) -> Sequence[Finding]:
    """EC2's own words about the image and about each type."""
    ec2 = account.client("ec2")
    image_id = subject.image
    if "/" in image_id:
        image_id = account.client("ssm").get_parameter(Name=subject.image)["Parameter"]["Value"]
    try:
        (image,) = ec2.describe_images(ImageIds=[image_id])["Images"]
    except ClientError as error:
        if not error_code(error).startswith("InvalidAMIID"):
            raise
        return [problem(NAME, f"there is no {image_id} in {subject.region}", "Name another with workerImageId.")]
    architecture = image["Architecture"]
    findings = []
    for row in ec2.describe_instance_types(InstanceTypes=list(subject.policy.workers.instance_types))["InstanceTypes"]:
        kind, supported = row["InstanceType"], row["ProcessorInfo"]["SupportedArchitectures"]
        if architecture in supported:
            findings.append(ok(f"{NAME} on {kind}", f"{image_id} is {architecture}"))
        else:
            todo = "Set workerImageId or workerImageParameter to an image of that architecture, or name other types."
            said = f"{image_id} is {architecture}, the type runs {' and '.join(supported)}"
            findings.append(problem(f"{NAME} on {kind}", said, todo))
    return findings
