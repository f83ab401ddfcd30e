"""Sentences on a terminal, each with the field of the policy behind it: folded to its width; in a pipe a line each."""

import shutil
import sys
import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

import typer

from autoscaler.cli.times import moment

WIDEST = 100


def heading(text: str) -> None:
    """What the lines below are about."""
    typer.echo(text)


def say(text: str, *, indent: int = 2) -> None:
    """One sentence."""
    if not sys.stdout.isatty():
        typer.echo(" " * indent + text)
        return
    width = min(WIDEST, shutil.get_terminal_size().columns)
    typer.echo(textwrap.fill(text, width, initial_indent=" " * indent, subsequent_indent=" " * (indent + 2)))


def tell(lines: Iterable[Mapping[str, Any]]) -> None:
    """Lines of an answer."""
    for line in lines:
        say(in_words(line))


def in_words(line: Mapping[str, Any]) -> str:
    """`about: says (until 14:02) [field]`."""
    until_s = line.get("until_s")
    until = f" (until {moment(until_s)})" if until_s is not None else ""
    about, says = str(line["about"]), str(line["says"])
    said = says if about in says else f"{about}: {says}"
    return f"{said}{until} [{lever(line)}]"


def lever(line: Mapping[str, Any]) -> str:
    """The fields that change it, or what else does."""
    fields, instead = ", ".join(line.get("fields") or ()), str(line.get("instead") or "")
    if fields and instead:
        return f"{fields}; {instead}"
    return fields or f"no field: {instead}"
