"""The page docs/cli.md, from the commands themselves: `python -m autoscaler.cli.reference` writes it anew."""

import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from typer.main import get_command

from autoscaler.cli.main import app
from autoscaler.cli.target import OPTIONS

PAGE: Final = Path(__file__).resolve().parents[2] / "docs" / "cli.md"
NAME: Final = "k3s-autoscaler"
COMMAND: Final = "python -m autoscaler.cli.reference"
INTRODUCTION: Final = f"""\
# Command line

<!-- Written by `{COMMAND}`: change the commands, not this page. -->

`bin/{NAME}` in a clone, or `{NAME}` once it is installed: `pipx install .` in a clone, or of the wheel that
`pip wheel --no-deps .` makes of one. `--install-completion` teaches your shell its words. What to do with it in
operation, exit codes and permissions: [operations.md](operations.md#command-line).

Commands that are about a cluster take these options as well:

"""


def page() -> str:
    """The whole page."""
    root: Any = get_command(app)
    shared: set[str] = set()
    parts: list[str] = []
    for words, command in _commands(root, ()):
        names = {one.name for one in command.params}
        is_aimed = names >= set(OPTIONS)
        if is_aimed and not shared:
            shared = set(OPTIONS)
            parts.append(_options(one for one in command.params if one.name in shared))
        parts.append(_command(words, command, without=shared if is_aimed else set()))
    return INTRODUCTION + "\n".join(parts)


def _commands(command: Any, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, one in getattr(command, "commands", {}).items():
        if hasattr(one, "commands"):
            yield from _commands(one, (*words, name))
        else:
            yield (*words, name), one


def _command(words: tuple[str, ...], command: Any, *, without: set[str]) -> str:
    arguments = " ".join(_argument(one) for one in command.params if one.param_type_name == "argument")
    own = [one for one in command.params if one.name not in without and one.name != "help"]
    typed = re.findall(rf"^  ({NAME} .*)$", command.epilog or "", re.MULTILINE)
    blocks = [
        f"## {' '.join((*words, arguments)).strip()}",
        _text(command.help) + ("\n\nTakes the options that name a cluster." if without else ""),
        _options(own).rstrip(),
        "\n".join(("```", *typed, "```")) if typed else "",
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _options(params: Iterable[Any]) -> str:
    rows = [_row(one) for one in params]
    return "\n".join(("| option | |", "|---|---|", *rows, "")) if rows else ""


def _row(one: Any) -> str:
    is_argument = one.param_type_name == "argument"
    takes_value = not is_argument and not one.is_flag
    name = _argument(one) if is_argument else ", ".join(one.opts)
    variables = [one.envvar] if isinstance(one.envvar, str) else list(one.envvar or ())
    also = [f"or `{'`, `'.join(variables)}`"] if variables else []
    if one.default not in {None, "", False}:
        also.append(f"default `{one.default}`")
    said = _text(one.help or "").replace("|", "\\|")
    known = f" ({'; '.join(also)})" if also else ""
    return f"| `{name}{' …' if takes_value else ''}` | {said}{known} |"


def _argument(one: Any) -> str:
    name = str(one.metavar or one.name).upper()
    return name if one.required else f"[{name}]"


def _text(text: str) -> str:
    """Lines of a paragraph as one; paragraphs apart."""
    return "\n\n".join(" ".join(part.split()) for part in text.replace("\b", "").split("\n\n"))


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    sys.stdout.write(f"{PAGE.name} is written.\n")
