"""How a command ends that did not foresee what happened: with one sentence. Nobody needs a trace at night."""

import errno
import os
from typing import Any, Final

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

from autoscaler.aws.failures import told_as
from autoscaler.cli.ending import FAILED, end, tell_failure
from autoscaler.ports import PortError

TRACE: Final = "K3S_AUTOSCALER_TRACE"


class Commands(TyperGroup):
    """The commands, and what they did not foresee."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command. Ctrl-C ends with 130, which typer sees to."""
        try:
            with told_as(PortError, f"run {ctx.command_path}"):
                return super().invoke(ctx)
        except (typer.Exit, typer.Abort, TyperException):
            raise
        except PortError as error:
            tell_failure(error)
        except Exception as error:
            if isinstance(error, OSError) and error.errno == errno.EPIPE:
                raise  # `| head` has seen enough
            if os.environ.get(TRACE):
                raise
            what = f"{type(error).__name__}: {' '.join(str(error).split())}".rstrip(": ")
            end(
                f"This is a fault of k3s-autoscaler itself ({what}): run it again with {TRACE}=1, and report what it "
                "says then.",
                FAILED,
            )
