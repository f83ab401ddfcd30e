"""`k3s-autoscaler token`: creates or rotates the webhook's bearer token, and says what Alertmanager needs."""

import json
import secrets
from typing import Annotated, Any, Final

import typer

from autoscaler.aws.clients import Clients
from autoscaler.aws.failures import told_as
from autoscaler.aws.parameters import ParameterUnavailable
from autoscaler.cli.ending import FAILED, WRONG_INPUT, end, in_a_sentence, told
from autoscaler.cli.options import AsJson
from autoscaler.cli.target import Target, aimed_without_table
from autoscaler.cli.token.parameter import (
    TOKEN_BYTES,
    Done,
    MissingParameter,
    Raced,
    Rotation,
    SsmTokenParameter,
    Wish,
    change_tokens,
)

CREDENTIALS_FILE: Final = "/etc/alertmanager/webhook-token"
"""As the rendered monitoring/alertmanager.yml names it."""
NO_ADDRESS: Final = "<WebhookUrl of the stack's outputs>"


@aimed_without_table
def token(
    *,
    target: Target,
    drop_previous: Annotated[
        bool, typer.Option("--drop-previous", help="End every token but the current one; make no new one.")
    ] = False,
    if_missing: Annotated[
        bool, typer.Option("--if-missing", help="Create it where there is none; leave one that stands as it is.")
    ] = False,
    show: Annotated[bool, typer.Option("--show", help="Print the current token; else it is never printed.")] = False,
    as_json: AsJson = False,
) -> None:
    """Create the webhook's bearer token, or rotate it: the one before stays accepted.

    After a rotation give Alertmanager the new one, then run it with --drop-previous.
    """
    cluster, clients = target.cluster_id, target.clients
    if drop_previous and if_missing:
        end("--drop-previous and --if-missing exclude each other: give one of them.", WRONG_INPUT)
    wish = Wish.DROP_PREVIOUS if drop_previous else Wish.ENSURE if if_missing else Wish.ROTATE
    parameter = SsmTokenParameter(clients, f"/k3s/{cluster}/webhook-token")
    try:
        with told():
            rotation = change_tokens(parameter, wish, new_token=lambda: secrets.token_urlsafe(TOKEN_BYTES))
    except (Raced, MissingParameter) as error:
        end(in_a_sentence(f"{parameter.name}: {error}"), FAILED)
    address = _address(clients, cluster)
    if as_json:
        typer.echo(json.dumps(_document(rotation, parameter.name, address, cluster, show=show), indent=2))
    else:
        _show(rotation, parameter.name, address, show=show)
    if rotation.overwritten is not None:
        typer.echo(
            f"Version {rotation.overwritten} of {parameter.name}, which somebody else wrote at the same time, was "
            "replaced: whoever made that token must fetch this one.",
            err=True,
        )


def _address(clients: Clients, cluster: str) -> str | None:
    """Where the webhook is, if the service has been deployed and we may know."""
    name = f"/k3s/{cluster}/webhook-url"
    try:
        with told_as(ParameterUnavailable, f"read the parameter {name}"):
            return clients.ssm().get_parameter(Name=name)["Parameter"].get("Value")
    except ParameterUnavailable:
        return None


def _document(rotation: Rotation, name: str, address: str | None, cluster: str, *, show: bool) -> dict[str, Any]:
    document: dict[str, Any] = {
        "cluster_id": cluster,
        "parameter": name,
        "done": rotation.done.value,
        "version": rotation.version,
        "accepted_tokens": len(rotation.tokens),
        "ended_tokens": rotation.ended,
        "overwritten_version": rotation.overwritten,
        "webhook_url": address,
    }
    return document | {"token": rotation.tokens[0]} if show else document


def _show(rotation: Rotation, name: str, address: str | None, *, show: bool) -> None:
    if show:
        typer.echo(rotation.tokens[0])
        typer.echo(_said(rotation, name), err=True)
        return
    typer.echo(_said(rotation, name))
    if rotation.done is Done.DROPPED:
        return
    typer.echo(f"""
On Alertmanager's machine, as root (the token stands in no command line and in no shell history):

  umask 077
  aws ssm get-parameter --name {name} --with-decryption --query Parameter.Value --output text \\
    | head -n 1 >{CREDENTIALS_FILE}.new
  chown alertmanager: {CREDENTIALS_FILE}.new && mv {CREDENTIALS_FILE}.new {CREDENTIALS_FILE}

In its configuration (`python -m autoscaler.deploy.rules` writes it whole); the file is read anew for each notification:

  receivers:
    - name: k3s-autoscaler
      webhook_configs:
        - url: {json.dumps(address or NO_ADDRESS)}
          send_resolved: false
          max_alerts: 20
          http_config:
            authorization:
              type: Bearer
              credentials_file: {CREDENTIALS_FILE}
            follow_redirects: false

A cluster of cluster.yml's own stack needs none of this: its server fetches the token every minute.""")


def _said(rotation: Rotation, name: str) -> str:
    """What was done, in a sentence or two."""
    others = len(rotation.tokens) - 1
    match rotation.done:
        case Done.CREATED:
            return f"{name} is created (version {rotation.version})."
        case Done.KEPT:
            also = f", with {others} previous beside it" if others else ""
            return f"{name} is left as it is (version {rotation.version}){also}."
        case Done.DROPPED:
            return f"{name} holds the current token alone (version {rotation.version}): {_ended(rotation.ended)}"
        case Done.ROTATED:
            older = f" Of the ones before it, {_ended(rotation.ended)}" if rotation.ended else ""
            return (
                f"{name} is rotated (version {rotation.version}): the new token is accepted at once, the previous one "
                f"until you run this with --drop-previous.{older}"
            )


def _ended(count: int) -> str:
    return f"{count} {'is' if count == 1 else 'are'} refused within five minutes."
