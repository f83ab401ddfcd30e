"""Who sits at this desk: for the mode's `by` and the history."""

import getpass
import os
import socket


def who() -> str:
    """`user@host`, at most 64 characters."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # no such user on this machine: a container's bare number
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"[:64]
