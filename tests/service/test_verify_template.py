"""`verify-aws` reads the template that is really generated: its subject is what would be deployed."""

import json
from pathlib import Path

from autoscaler.cli.verify.checks import Subject, read_subject
from autoscaler.cli.verify.service import sample_events
from autoscaler.policy import Policy
from tests.cli.verify.fake_account import matches
from tests.service.conftest import EVERY_PART, Template

POLICY = Policy(version=1)


def subject_of(template: Template, folder: Path) -> Subject:
    path = folder / "template.json"
    path.write_text(template.text)
    return read_subject(str(path), region="eu-central-1", policy=POLICY)


def test_the_least_deployment(template: Template, tmp_path: Path) -> None:
    subject = subject_of(template, tmp_path)
    assert (subject.cluster_id, subject.stack) == ("demo", "k3s-autoscaler-local")
    assert subject.image.startswith("/aws/service/ami-")
    assert (subject.function_subnet_ids, subject.dual_stack, subject.reserved_concurrency) == ((), False, 0)
    assert subject.document == template.body["Resources"]["NodeCommandDocument"]["Properties"]["Name"]


def test_every_part(full_template: Template, tmp_path: Path) -> None:
    subject = subject_of(full_template, tmp_path)
    assert subject.cluster_id == EVERY_PART["clusterId"]
    assert subject.image == EVERY_PART["workerImageId"]
    assert subject.function_subnet_ids == tuple(EVERY_PART["functionSubnetIds"].split(","))
    assert (subject.dual_stack, subject.reserved_concurrency) == (True, 15)


def test_the_generated_rules_match_the_documented_events_and_no_others(template: Template, tmp_path: Path) -> None:
    subject = subject_of(template, tmp_path)
    for name, (event, expected) in sample_events(subject).items():
        found = [rule for rule, pattern in subject.rules if matches(json.loads(pattern), event)]
        assert bool(found) is expected, name
