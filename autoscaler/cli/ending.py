"""How a command ends: one sentence on standard error, and a code that a script can tell apart."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NoReturn

import typer

from autoscaler.cli.change import Contended
from autoscaler.cli.mends import mend_of
from autoscaler.ports import PortError

FAILED: Final = 1
"""AWS refused or could not be reached, or something stands against it."""
WRONG_INPUT: Final = 2
"""Nothing was asked."""
INTERRUPTED: Final = 130
"""Ctrl-C, as shells write it."""


def end(sentence: str, code: int) -> NoReturn:
    """Say why, and end."""
    typer.echo(sentence, err=True)
    raise typer.Exit(code)


@contextmanager
def told() -> Iterator[None]:
    """Turn a dependency's failure into one sentence and FAILED."""
    try:
        yield
    except Contended as error:
        end(in_a_sentence(str(error)), FAILED)
    except PortError as error:
        tell_failure(error)


def tell_failure(error: PortError) -> NoReturn:
    """Say what failed and what to do about it, and end."""
    end(f"{in_a_sentence(str(error))} {mend_of(error.code)}".rstrip(), FAILED)


def in_a_sentence(text: str) -> str:
    """Begin with a capital, end with a full stop."""
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")
