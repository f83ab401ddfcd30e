"""Compile what a function's start compiles of regular expressions: `package_patterns.py TREE`.

Called by scripts/package on the tree that package_tree.py has cut, with the runtime's Python, whose `re` has compiled
nothing yet. Our own modules' patterns are not among them: those modules need msgspec, and its extension is for the
functions' processor. autoscaler/patterns.py reads what is written.
"""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, Final

LIBRARIES: Final = (
    "aws_lambda_powertools",
    "aws_lambda_powertools.metrics.provider.cloudwatch_emf.cloudwatch",
    "aws_lambda_powertools.utilities.idempotency",
    "botocore.session",
    "requests",
)
"""Their imports, and the making of a client, compile what a start compiles of theirs and of the standard library's."""

Row = tuple[str | bytes, int, int, tuple[int, ...], tuple[str | None, ...]]
"""A pattern, the flags it is asked for with, those that it has, its code, and its groups' names."""


@contextmanager
def recorded() -> Iterator[list[Row]]:
    """What `re` compiles in this context."""
    compiler: Any = vars(re)["_compiler"]
    matcher: Any = import_module("_sre")
    compile_pattern, make = compiler.compile, matcher.compile
    rows: list[Row] = []
    asked: list[int] = []

    def compiling(pattern: Any, flags: int = 0) -> Any:
        asked.append(flags)
        try:
            return compile_pattern(pattern, flags)
        finally:
            asked.pop()

    def making(pattern: Any, flags: int, code: list[int], *groups: Any) -> Any:
        if asked and pattern is not None:
            rows.append((pattern, int(asked[-1]), int(flags), tuple(map(int, code)), groups[-1]))
        return make(pattern, flags, code, *groups)

    compiler.compile, matcher.compile = compiling, making
    try:
        yield rows
    finally:
        compiler.compile, matcher.compile = compile_pattern, make


def begin(tree: str) -> None:
    """What a function's start does with libraries. A client of each service that the cut has left."""
    for name in LIBRARIES:
        import_module(name)
    session = import_module("botocore.session").get_session()
    session.set_credentials("none", "none")
    data = import_module("pathlib").Path(tree, "botocore", "data")
    for model in sorted(data.glob("*/*/service-2.json.gz")):
        session.create_client(model.parts[-3], region_name="eu-central-1")


def main() -> None:
    """Work on the tree of the command line."""
    tree = sys.argv[1]
    sys.path.insert(0, tree)
    with recorded() as rows:
        begin(tree)
    patterns = import_module("autoscaler.patterns")
    lines = [f"MATCHER = {patterns.matcher()!r}", "PATTERNS = (", *(f"{row!r}," for row in rows), ")", ""]
    import_module("pathlib").Path(tree, f"{patterns.PACKAGED}.py").write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
