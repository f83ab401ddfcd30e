"""Which modules of a folder can be imported at all, found by reading their sources: nothing is run.

A library is kept as far as our code reaches it: every `import` that stands anywhere in a reached module counts, within
functions and `try` too, so that what is imported late or only on an error path is kept as well. Two things are passed
over: what a type checker alone reads, and a module that could never be imported here because what it begins by
importing is not installed (pydantic, awscrt, OpenSSL). Some libraries import by a name in a string; any string that
is the name of a module here, or begins with one (`boto3.s3.inject.inject_bucket_methods`), counts as its import.
"""

import ast
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple


class Imports(NamedTuple):
    """Dotted names that a module mentions; an attribute's name may stand behind the module's."""

    first: frozenset[str]
    """Imported whenever the module is: without them it cannot be."""
    all: frozenset[str]


class Tree:
    """The modules of one folder that stands on sys.path."""

    def __init__(self, root: Path) -> None:
        self.modules: dict[str, list[Path]] = {}
        """The files of each: its source first, and its C extension behind it or alone."""
        for name, path in _modules(root):
            self.modules.setdefault(name, []).append(path)
        self._tops = {name.partition(".")[0] for name in self.modules}
        self._read: dict[str, Imports] = {}

    def reached(self, packages: Iterable[str]) -> set[str]:
        """Names of the modules of these packages and of all that they can import, with the packages around them."""
        own = set(packages)
        begin = [name for name in self.modules if name.partition(".")[0] in own]
        impossible: set[str] = set()
        while True:
            found = self._follow(begin, impossible)
            more = {name for name in found if self._cannot_be_imported(name, impossible)}
            if not more:
                return found
            impossible |= more

    def _follow(self, begin: Iterable[str], impossible: set[str]) -> set[str]:
        waiting = list(begin)
        found: set[str] = set()
        while waiting:
            name = waiting.pop()
            around = [parent for parent in _parents(name) if parent in self.modules]
            if name in found or impossible & {name, *around}:
                continue
            found.add(name)
            waiting += around
            waiting += [module for said in self._imports(name).all if (module := self._module_of(said))]
        return found

    def _cannot_be_imported(self, name: str, impossible: set[str]) -> bool:
        for said in self._imports(name).first:
            top = said.partition(".")[0]
            if top not in self._tops and top not in sys.stdlib_module_names:
                return True
            module = self._module_of(said)
            if module and impossible & {module, *_parents(module)}:
                return True
        return False

    def _imports(self, name: str) -> Imports:
        if name not in self._read:
            path = self.modules[name][0]
            around = name.rpartition(".")[0]
            if path.suffix == ".py":
                self._read[name] = _imports_of(path, name if path.name == "__init__.py" else around)
            else:  # what an extension without a source imports cannot be read: all beside it
                beside = frozenset(other for other in self.modules if around and other.rpartition(".")[0] == around)
                self._read[name] = Imports(frozenset(), beside)
        return self._read[name]

    def _module_of(self, dotted: str) -> str:
        """The module of this name, or the one that it is an attribute of; empty for what is not here."""
        if dotted.partition(".")[0] not in self._tops:
            return ""
        while dotted and dotted not in self.modules:
            dotted = dotted.rpartition(".")[0]
        return dotted


def _modules(root: Path) -> Iterator[tuple[str, Path]]:
    """Sources, then C extensions."""
    for path in [*sorted(root.rglob("*.py")), *sorted(root.rglob("*.so"))]:
        stem = path.name.partition(".")[0]
        if stem.isidentifier():
            parts = [*path.relative_to(root).parts[:-1], *([] if stem == "__init__" else [stem])]
            yield ".".join(parts), path


def _parents(name: str) -> Iterator[str]:
    while name := name.rpartition(".")[0]:
        yield name


def _imports_of(path: Path, package: str) -> Imports:
    tree = ast.parse(path.read_bytes(), filename=str(path))
    first = {name for node in tree.body for name in _imported(node, package, only_modules=True)}
    every: set[str] = set()
    for node in _run(tree):
        every.update(_imported(node, package))
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            every.add(node.value)
    return Imports(frozenset(first), frozenset(every))


def _imported(node: ast.AST, package: str, *, only_modules: bool = False) -> Iterator[str]:
    """The names of one statement. `only_modules`: not those behind `import`, which may be attributes."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        around = package.split(".")
        base = around[: len(around) - node.level + 1] if node.level else []
        base += [node.module] if node.module else []
        yield ".".join(base)
        if not only_modules:
            yield from (".".join([*base, alias.name]) for alias in node.names)


def _run(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node but those under `if TYPE_CHECKING:`."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        only_types = isinstance(node, ast.If) and ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}
        waiting.extend(node.orelse if only_types else ast.iter_child_nodes(node))  # type: ignore[attr-defined]
