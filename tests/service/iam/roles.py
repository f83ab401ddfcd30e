"""What each role of ours is asked for: by our code, by our scripts, and by AWS' own services in its name."""

import re
from collections.abc import Iterator
from functools import cache

from tests.service.conftest import ROOT
from tests.service.iam.calls import FUNCTIONS, Call, calls_of
from tests.service.iam.evaluator import Request
from tests.service.iam.rendered import Rendered
from tests.service.iam.requests import asked_by_lambda, requests_of
from tests.service.iam.world import READINGS, world_of

SCRIPTS = ROOT / "cloudformation" / "scripts"


def cluster_id(service: Rendered) -> str:
    """As the functions know it."""
    return str(service.template.properties("SweepLambdaFunction")["Environment"]["Variables"]["CLUSTER_ID"])


@cache
def asked_of_function(service: Rendered, role: str) -> list[Request]:
    """Everything, in every reading."""
    world = world_of(service, cluster_id(service))
    found = [
        request
        for call in calls_of(service, role)
        for reading in READINGS
        for request in requests_of(call, world, reading)
    ]
    properties = service.template.properties(FUNCTIONS[role])
    queue = service.value({"Fn::GetAtt": ["LifecycleFailures", "Arn"]}) if role == "LifecycleRole" else None
    return found + asked_by_lambda(properties["FunctionName"], in_vpc="VpcConfig" in properties, queue=queue)


def calls_of_worker(cluster: str, *, registries: bool) -> Iterator[Call]:
    """What its bootstrap reads."""
    text = (SCRIPTS / "worker-bootstrap.sh").read_text()
    for name in re.findall(r'^ *ask_parameter \w+ "/k3s/\$CLUSTER_ID/([a-z-]+)"', text, re.MULTILINE):
        yield "ssm:GetParameter", {"Name": f"/k3s/{cluster}/{name}"}
    if registries:
        yield "ssm:GetParameter", {"Name": f"/k3s/{cluster}/registries"}


def calls_of_server(cluster: str, *, registries: bool) -> Iterator[Call]:
    """What its bootstrap and its sync, once a minute, read and write."""
    text = (SCRIPTS / "server-sync.sh").read_text()
    names = re.search(r"names=\(([a-z -]+)\)", text)
    assert names is not None
    yield "ssm:GetParameters", {"Names": [f"/k3s/{cluster}/{name}" for name in names[1].split()]}
    for piece in ("00", "14"):
        yield "ssm:GetParameter", {"Name": f"/k3s/{cluster}/bundle/{piece}"}
    for name in re.findall(r"^ *publish ([a-z-]+) ", text, re.MULTILINE):
        yield "ssm:PutParameter", {"Name": f"/k3s/{cluster}/{name}"}
    if registries:
        yield "ssm:GetParameter", {"Name": f"/k3s/{cluster}/registries"}


def asked_of_machine(service: Rendered, calls: Iterator[Call]) -> list[Request]:
    """Everything that a machine's scripts ask for; no reading makes a difference to these."""
    world = world_of(service, cluster_id(service))
    return [request for call in calls for request in requests_of(call, world, READINGS[0])]
