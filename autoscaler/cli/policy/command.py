"""`k3s-autoscaler policy`: show, set, apply, history, rollback, clear."""

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer

from autoscaler.cli.change import change_state
from autoscaler.cli.ending import FAILED, WRONG_INPUT, end, in_a_sentence, told
from autoscaler.cli.options import AsJson, examples
from autoscaler.cli.policy.parameter import NOTHING, Overtaken, PolicyParameter, Version
from autoscaler.cli.stacks import POLICY_OUTPUT
from autoscaler.cli.tables import console, table
from autoscaler.cli.target import Target, aimed
from autoscaler.cli.times import ago
from autoscaler.deploy.reference.files import schema_text
from autoscaler.live_policy import changed_policy, in_force, taken_up
from autoscaler.model import OfferedPolicy, State
from autoscaler.policy import Policy, policy_hash
from autoscaler.policy_text import PolicyError
from autoscaler.ports import StateStore
from autoscaler.runtime import read_policy

policy = typer.Typer(help="Changes the policy while a cluster runs, and takes changes back.", no_args_is_help=True)

Deployed = Annotated[
    str, typer.Option("--policy", envvar="POLICY_FILE", help="The policy file that is deployed; changes lie over it.")
]
_DEFAULT: Final = "policy.yml"
_HASH: Final = re.compile(r"[0-9a-f]{12}")


@policy.command(epilog=examples("policy show --stage main"))
@aimed
def show(
    *,
    target: Target,
    file: Deployed = _DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Show what is changed about the deployed policy, and whether all of it holds."""
    store, parameter, deployed = _reached(target, file)
    with told():
        state, offered = store.load()[0], parameter.read()
    document = _document(state, offered, deployed, parameter.name)
    if as_json:
        typer.echo(json.dumps(document, indent=2))
        return
    typer.echo(_said(document))
    if document["text"]:
        typer.echo(f"\n{document['text'].rstrip()}")


@policy.command(epilog=examples("policy schema > policy.schema.json"))
def schema() -> None:
    """Print the JSON Schema of a policy file: editors complete, explain and check by it."""
    typer.echo(schema_text(), nl=False)


@policy.command("set", epilog=examples("policy set changes.yml --stage main"))
@aimed
def set_(
    changes: Annotated[Path, typer.Argument(metavar="FILE", help="YAML with the fields that change, and no others.")],
    *,
    target: Target,
    file: Deployed = _DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Change the policy from the next look on.

    The file's fields lie over the deployed policy, in the place of all that was changed before.
    """
    try:
        text = changes.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        end(f"{changes} could not be read: {reason}.", WRONG_INPUT)
    store, parameter, deployed = _reached(target, file)
    _write(store, parameter, deployed, text if text.strip() else NOTHING, as_json=as_json)


@policy.command(epilog=examples("policy apply --stage main"))
@aimed
def apply(
    *,
    target: Target,
    file: Deployed = _DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Take up what stands in the parameter.

    Needed where its event was lost after an edit by hand or by another tool.
    """
    store, parameter, deployed = _reached(target, file)
    with told():
        offered = parameter.read()
    _finish(store, offered, deployed, parameter, as_json=as_json)


@policy.command(epilog=examples("policy history --stage main"))
@aimed
def history(
    *,
    target: Target,
    file: Deployed = _DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Show the versions of the changes that Parameter Store keeps, the newest first."""
    store, parameter, deployed = _reached(target, file)
    with told():
        state, versions = store.load()[0], parameter.versions()
    holds = in_force(deployed, state.policy_override).version
    if as_json:
        rows = [msgspec.to_builtins(one) | {"holds": one.version == holds} for one in versions]
        typer.echo(json.dumps(rows, indent=2))
        return
    now_s = int(time.time())
    rows = [
        (
            str(one.version),
            "yes" if one.version == holds else "",
            ago(one.changed_at_s, now_s),
            one.by.rpartition(":")[2],
            " ".join(one.text.split()),
        )
        for one in versions
    ]
    table(console(), "versions", ("version", "holds", "written", "by", "changes"), rows, empty="none")


@policy.command(epilog=examples("policy rollback --stage main", "policy rollback 3 --stage main"))
@aimed
def rollback(
    version: Annotated[int, typer.Argument(min=0, help="The version to go back to; without it the one before.")] = 0,
    *,
    target: Target,
    file: Deployed = _DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Go back to an earlier version of the changes: it is written anew, as the newest one."""
    store, parameter, deployed = _reached(target, file)
    with told():
        versions = parameter.versions()
    _write(store, parameter, deployed, _earlier(versions, version, parameter.name).text, as_json=as_json)


@policy.command(epilog=examples("policy clear --stage main"))
@aimed
def clear(
    *,
    target: Target,
    file: Deployed = _DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Take every change back: the deployed policy holds alone. The versions are kept."""
    store, parameter, deployed = _reached(target, file)
    with told():
        stands = parameter.read().text
    if stands is None:
        _finish(store, OfferedPolicy(text=None), deployed, parameter, as_json=as_json)
        return
    _write(store, parameter, deployed, NOTHING, as_json=as_json)


def _earlier(versions: list[Version], wanted: int, name: str) -> Version:
    """The version that is wanted, or the newest whose changes are others than the present ones."""
    if not versions:
        end(f"There is no parameter {name}: nothing was changed, so there is nothing to go back to.", WRONG_INPUT)
    if wanted:
        found = next((one for one in versions if one.version == wanted), None)
        if found is None:
            kept = f"{versions[-1].version} to {versions[0].version}"
            end(f"Version {wanted} of {name} is not kept: {kept} are.", WRONG_INPUT)
        return found
    found = next((one for one in versions if one.text != versions[0].text), None)
    # Before the first change there was none.
    return found or msgspec.structs.replace(versions[0], text=NOTHING)


def _reached(target: Target, file: str) -> tuple[StateStore, PolicyParameter, Policy]:
    try:
        deployed = read_policy(file)
    except PolicyError as error:
        end(str(error), WRONG_INPUT)
    stands, here = target.outputs.get(POLICY_OUTPUT, ""), policy_hash(deployed)
    if _HASH.fullmatch(stands) and stands != here:
        typer.echo(
            f"{file} is policy_hash {here}, and {stands} is deployed: name that file by --policy (or POLICY_FILE), "
            "or what is said here may be wrong.",
            err=True,
        )
    return target.store(), PolicyParameter(target.clients, target.cluster_id), deployed


def _write(store: StateStore, parameter: PolicyParameter, deployed: Policy, text: str, *, as_json: bool) -> None:
    """Check before anything is written; write; take up."""
    try:
        changed_policy(deployed, text)
    except PolicyError as error:
        end(f"Nothing is changed. {error}", WRONG_INPUT)
    try:
        with told():
            offered = parameter.write(text)
    except Overtaken as error:
        end(in_a_sentence(str(error)), FAILED)
    _finish(store, offered, deployed, parameter, as_json=as_json)


def _finish(
    store: StateStore, offered: OfferedPolicy, deployed: Policy, parameter: PolicyParameter, *, as_json: bool
) -> None:
    with told():
        state = take_up(store, offered, deployed)
    document = _document(state, offered, deployed, parameter.name)
    typer.echo(json.dumps(document, indent=2) if as_json else _said(document))
    if document["problem"]:
        raise typer.Exit(FAILED)


def take_up(
    store: StateStore, offered: OfferedPolicy, deployed: Policy, *, sleep: Callable[[float], None] = time.sleep
) -> State:
    """Put what stands in the parameter into the state, from where the next look has it; returns the state then.

    The lifecycle function does the same when Parameter Store's event reaches it, which it may not: both may. Raises
    Contended, StoreUnavailable, StateMalformed.
    """
    return change_state(
        store,
        lambda state: taken_up(state, offered, deployed),
        but="the parameter is written, and the next event or `k3s-autoscaler policy apply` takes it up.",
        sleep=sleep,
    ).after


def _document(state: State, offered: OfferedPolicy, deployed: Policy, name: str) -> dict[str, Any]:
    override = state.policy_override
    holds = in_force(deployed, override)
    seen = override.seen_version if override is not None else 0
    return {
        "parameter": name,
        "version": holds.version,
        "policy_hash": policy_hash(holds.policy),
        "deployed_policy_hash": policy_hash(deployed),
        "text": override.text if override is not None and holds.version is not None else "",
        "problem": holds.problem,
        "version_in_parameter": offered.version if offered.text is not None else None,
        "taken_up": offered.version == seen,
    }


def _said(document: dict[str, Any]) -> str:
    name, hashed = document["parameter"], document["policy_hash"]
    version, without = document["version"], document["deployed_policy_hash"]
    if version is None:
        sentences = [f"The deployed policy holds alone: policy_hash {hashed}."]
    elif hashed == without:
        sentences = [f"Version {version} of {name} changes nothing about the deployed policy: policy_hash {hashed}."]
    else:
        sentences = [
            f"Version {version} of {name} lies over the deployed policy: policy_hash {hashed}, without it {without}."
        ]
    if document["problem"]:
        sentences.append(in_a_sentence(document["problem"]))
    if not document["taken_up"]:
        stands = document["version_in_parameter"]
        said = f"version {stands} stands in it" if stands is not None else "it does not exist"
        sentences.append(f"{name} has changed and is not taken up, for {said}: `k3s-autoscaler policy apply`.")
    return "\n".join(sentences)
