"""What packaging refuses beside wrong parameters: `python -m autoscaler.deploy.check`, one sentence for each problem.

A policy that the functions would not start with, signals that are no PromQL, rules that were rendered from another
policy, and workers whose image is for another processor than their types have.
"""

import sys
from pathlib import Path
from typing import Annotated

import typer

from autoscaler.decide.capacity.catalogue import faults_of_types
from autoscaler.deploy.architecture import of_image_name, of_workers
from autoscaler.deploy.pools import templates
from autoscaler.deploy.promql import unparsable_signals
from autoscaler.deploy.rules import ROOT, RULES, RenderError, Settings, render
from autoscaler.policy import Policy
from autoscaler.policy_files import files_of, load_policy
from autoscaler.policy_text import PolicyError
from autoscaler.policyfile.places import Fault, Places
from autoscaler.policyfile.text import BadYaml


def problems(policy: Path, rules: Path, image: str) -> list[str]:
    """Every problem, one sentence each. `rules` is the folder that `make rules` writes to, `image` the image's name."""
    try:
        decoded = load_policy(policy, named_by="with --policy")
    except PolicyError as error:
        return [str(error)]
    return [
        *(f"The policy's {fault}." for fault in faults_of_types(decoded)),
        *(f"The policy's {fault}." for fault in unparsable_signals(decoded)),
        *stale_rules(decoded, rules, policy),
        *_other_architecture(decoded, image),
    ]


def faults_of(policy: Path) -> tuple[Policy | None, list[Fault]]:
    """Everything wrong with a policy itself, each with its place; None for the policy where it cannot be read."""
    try:
        decoded = load_policy(policy, named_by="as the argument")
    except PolicyError as error:
        if error.faults:
            places = Places(error.files)
            return None, sorted((places.fault(sentence) for sentence in error.faults), key=_in_order)
        cause = error.__cause__
        return None, [Fault(str(error), str(policy), cause.line) if isinstance(cause, BadYaml) else Fault(str(error))]
    places = Places(files_of(policy))
    return decoded, [places.fault(fault) for fault in (*faults_of_types(decoded), *unparsable_signals(decoded))]


def _in_order(fault: Fault) -> tuple[str, int]:
    return fault.source, fault.line


def stale_rules(policy: Policy, rules: Path, file: Path) -> list[str]:
    """A sentence where the rules were rendered from another policy than that of the file.

    Rules for a Prometheus of one cluster (`--local`) are as good: they differ in nothing but selectors.
    """
    try:
        accepted = [render(policy, Settings(local=local)) for local in (False, True)]
    except RenderError as error:
        return [str(error)]
    stale = [path for path in RULES if _text(rules / path) not in {files[path] for files in accepted}]
    if not stale:
        return []
    names = " and ".join(f"monitoring/{path}" for path in stale)
    which = "" if file.name == "policy.yml" else f" POLICY={file.name}"
    return [f"{names} are not what the policy renders: run `make rules{which}`, and bring them to Prometheus."]


def _text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None


def _other_architecture(policy: Policy, image: str) -> list[str]:
    first, workers = policy.default_pool, of_workers(policy)
    of_image = of_image_name(image)
    if first.image or of_image in {None, workers}:
        try:
            templates(policy, image)
        except PolicyError as error:
            return [f"The policy's {error}"]
        return []
    types = f"workers.pools.{first.name}" if policy.workers.pools else "workers.instance_types"
    return [
        f"The policy's {types} are {workers} and the workers' image is {of_image} ({image}): set the "
        "parameter workerImageParameter to an image of their architecture, or name other types."
    ]


def main(
    *,
    policy: Annotated[Path, typer.Option(help="The scaling policy.")] = ROOT / "policy.yml",
    rules: Annotated[Path, typer.Option(help="The folder that `make rules` wrote to.")] = ROOT / "monitoring",
    image: Annotated[str, typer.Option(help="The name of the workers' image; an id says nothing.")] = "",
) -> None:
    """Say what stands against a deployment of this policy; ends with 2 if something does."""
    found = problems(policy, rules, image)
    for sentence in found:
        sys.stderr.write(f"{sentence}\n")
    if found:
        raise typer.Exit(2)


if __name__ == "__main__":
    typer.run(main)
