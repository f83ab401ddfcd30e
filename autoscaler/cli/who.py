"""Who sits at this desk: for the mode's `by` and the history."""

import getpass
import os
import socket

from autoscaler.aws.clients import Clients
from autoscaler.aws.failures import told_as
from autoscaler.ports import PortError

LONGEST = 64


class WhoUnavailable(PortError):
    """STS could not be asked."""


def who(clients: Clients) -> str:
    """The AWS principal, such as `assumed-role/Admin/ada`, at most 64 characters; its end, where it is longer.

    GetCallerIdentity needs no permission (STS API reference). Where it gives no answer, `user@host` as this machine
    has it: a change of the mode must not wait for a name.
    """
    try:
        with told_as(WhoUnavailable, "ask whose credentials these are"):
            arn = str(clients.client("sts").get_caller_identity()["Arn"])
    except WhoUnavailable:
        return _at_this_machine()
    return arn.rpartition(":")[2][-LONGEST:]


def _at_this_machine() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # no such user on this machine: a container's bare number
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"[:LONGEST]
