"""Turn a folder of installed packages and our code into the Lambda artifact: prune, cut, compile, zip.

Called by scripts/package with the runtime's own Python: `package_tree.py cut TREE`,
then `package_tree.py zip TREE ZIP`.

What is left out costs cold-start time and nothing else. botocore knows 400 services, and the functions call four: the
EC2 model alone takes about 130 ms of CPU and 20 MB to load; cut to the operations used, a quarter of that. Powertools
is thirty utilities, and the functions use three. No kept file is edited but botocore's models.
"""

import compileall
import contextlib
import gzip
import hashlib
import importlib
import json
import py_compile
import shutil
import sys
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from package_imports import Tree

OUR_PACKAGES: Final = ("autoscaler", "handlers")
READ_AS_DATA: Final = frozenset({"tzdata"})
"""Packages that the standard library opens as files (zoneinfo): no import of them stands anywhere."""
NEVER_OPENED: Final = {
    "charset_normalizer/*.so": "its modules once more, compiled: no answer's charset is guessed here",
    "yaml/_yaml.*.so": "libyaml, 2.7 MB: the policy is read by PyYAML's own code",
    "botocore/cacert.pem": "botocore takes certifi's where that is installed",
    "dateutil/zoneinfo/*.tar.gz": "time zones by name: botocore reads times, and those name no zone",
    "tzdata/zoneinfo/*.tab": "zones by country: zoneinfo opens a zone's own file",
    "tzdata/zoneinfo/tzdata.zi": "the same rules once more, as text",
}
"""Large files of what is reached, and why nothing misses them: each library goes on without its file."""
OPERATIONS: Final = {
    "dynamodb": frozenset({"DeleteItem", "GetItem", "PutItem", "Query", "UpdateItem"}),
    "ec2": frozenset(
        {
            "CreateFleet",
            "DescribeInstances",
            "DescribeLaunchTemplates",
            "DescribeSubnets",
            "TerminateInstances",
        }
    ),
    "sns": frozenset({"Publish"}),
    "ssm": frozenset({"GetCommandInvocation", "GetParameter", "SendCommand"}),
}
"""Services and operations kept. tests/service/test_package.py holds them equal to what code and roles name."""

DROPPED_FILES: Final = (
    "INSTALLER",
    "RECORD",
    "REQUESTED",
    "WHEEL",
    "direct_url.json",
    "uv_build.json",
    "uv_cache.json",
)
EPOCH: Final = (1980, 1, 1, 0, 0, 0)
"""The earliest time that a zip can hold."""


def main() -> None:
    """Do one of the two steps of the command line."""
    step, tree, *archive = sys.argv[1:]
    if step == "cut":
        cut(Path(tree))
    else:
        compile_tree(Path(tree))
        write_zip(Path(tree), Path(*archive))


def cut(tree: Path) -> None:
    """Leave what the functions reach, and what saves them work."""
    if sys.version_info.releaselevel != "final":
        sys.exit(
            f"package: Python {sys.version.split()[0]} is no release, and its bytecode may not be Lambda's: use one."
        )
    prune(tree)
    cut_libraries(tree)
    cut_botocore(tree / "botocore" / "data")
    cut_boto3(tree / "boto3" / "data")
    remember_policies(tree)


def prune(tree: Path) -> None:
    """Drop what is never imported or read: installers' records, packages' long descriptions, scripts and own tests."""
    shutil.rmtree(tree / "bin", ignore_errors=True)
    (tree / ".lock").unlink(missing_ok=True)
    for folder in [*tree.rglob("__pycache__"), *tree.glob("*/tests"), *tree.glob("*/test")]:
        shutil.rmtree(folder, ignore_errors=True)
    for info in tree.glob("*.dist-info"):
        for name in DROPPED_FILES:
            (info / name).unlink(missing_ok=True)
        metadata = info / "METADATA"  # fields, an empty line, and the project's page, 40 KB of all together
        metadata.write_text(metadata.read_text(encoding="utf-8").partition("\n\n")[0] + "\n", encoding="utf-8")


def cut_libraries(tree: Path) -> None:
    """Drop every module that our code cannot reach, what else lies in a package of which nothing is left, NEVER_OPENED.

    Ends with a sentence where a pattern of that finds nothing: a new release has another layout.
    """
    files = Tree(tree).modules
    kept = Tree(tree).reached(OUR_PACKAGES) | {name for name in files if name.partition(".")[0] in READ_AS_DATA}
    for name in files.keys() - kept:
        for path in files[name]:
            path.unlink()
    for name in sorted(packages_in(files) - packages_in(kept)):
        shutil.rmtree(tree.joinpath(*name.split(".")), ignore_errors=True)
    for pattern in NEVER_OPENED:
        found = list(tree.glob(pattern))
        if not found:
            sys.exit(
                f"package: NEVER_OPENED in {Path(__file__).name} names {pattern}, which no package has: take it out."
            )
        for path in found:
            path.unlink()


def packages_in(modules: Iterable[str]) -> set[str]:
    """Every name that stands before or is one of these: `a.b` and `a` for `a.b`."""
    return {".".join(parts[:end]) for name in modules if (parts := name.split(".")) for end in range(1, len(parts) + 1)}


def cut_botocore(data: Path) -> None:
    """Keep the services used, their newest version, and of that the operations used."""
    for entry in data.iterdir():
        if entry.is_dir() and entry.name not in OPERATIONS:
            shutil.rmtree(entry)
    for service in sorted(OPERATIONS):
        *old, newest = sorted((data / service).iterdir())
        for version in old:
            shutil.rmtree(version)
        for name in ("examples-1.json", "waiters-2.json"):
            (newest / name).unlink(missing_ok=True)
        cut_model(newest, OPERATIONS[service])
    cut_endpoints(data / "endpoints.json")


def cut_model(version: Path, operations: frozenset[str]) -> None:
    """Rewrite one model with these operations and every shape that they reach. Raises KeyError for unknown ones."""
    path = version / "service-2.json.gz"
    model = json.loads(gzip.decompress(path.read_bytes()))
    model["operations"] = {name: model["operations"][name] for name in sorted(operations)}
    reached = reachable_shapes(model["operations"].values(), model["shapes"])
    model["shapes"] = {name: shape for name, shape in model["shapes"].items() if name in reached}
    path.write_bytes(gzip.compress(compact(without_documentation(model)), mtime=0))
    paginators = version / "paginators-1.json"
    pagination = json.loads(paginators.read_bytes())["pagination"]
    kept = {name: rule for name, rule in pagination.items() if name in operations}
    paginators.write_bytes(compact({"pagination": kept}))
    for extra in version.glob("*.sdk-extras.json"):  # merged into the files above, for operations that may be gone
        extra.unlink()


def reachable_shapes(roots: Iterable[Any], shapes: dict[str, Any]) -> set[str]:
    """Names of every shape that these operations name, directly or through other shapes."""
    reached: set[str] = set()
    waiting: list[Any] = list(roots)
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            name = part.get("shape")
            if isinstance(name, str) and name in shapes and name not in reached:
                reached.add(name)
                waiting.append(shapes[name])
            waiting.extend(part.values())
        elif isinstance(part, list):
            waiting.extend(part)
    return reached


def without_documentation(part: Any) -> Any:
    """Drop the texts that only `help()` shows. A *member* of that name is an object, not a text, and stays."""
    if isinstance(part, dict):
        return {
            key: without_documentation(value)
            for key, value in part.items()
            if key != "documentation" or not isinstance(value, str)
        }
    if isinstance(part, list):
        return [without_documentation(value) for value in part]
    return part


def cut_endpoints(path: Path) -> None:
    """Keep the endpoints of the services used, in every partition and region."""
    endpoints = json.loads(path.read_bytes())
    for partition in endpoints["partitions"]:
        partition["services"] = {name: rule for name, rule in partition["services"].items() if name in OPERATIONS}
    path.write_bytes(compact(endpoints))


def cut_boto3(data: Path) -> None:
    """Keep the resource model of DynamoDB only."""
    for entry in data.iterdir():
        if entry.is_dir() and entry.name != "dynamodb":
            shutil.rmtree(entry)


def remember_policies(tree: Path) -> None:
    """Parse the policies and presets here, by the parser that the functions have: they need not load it then.

    A text that is no policy's YAML is left for the functions to tell.
    """
    sys.path.insert(0, str(tree))
    parsing = importlib.import_module("autoscaler.policyfile.parsing")
    known: dict[str, Any] = {}
    for path in [*sorted(tree.glob("policy*.yml")), *sorted((tree / "autoscaler" / "presets").glob("*.yml"))]:
        with contextlib.suppress(ValueError):
            text = path.read_text(encoding="utf-8")
            known[hashlib.sha256(text.encode()).hexdigest()] = parsing.parse(text, marked)
    (tree / "autoscaler" / "policyfile" / "remembered.json").write_bytes(compact(known))


def marked(text: str, quoted: bool) -> str:  # noqa: FBT001 - called by the parser, which passes both by position
    """A scalar with the character before it that says whether it was quoted (autoscaler/policyfile/text.py)."""
    return f'"{text}' if quoted else f" {text}"


def compact(value: Any) -> bytes:
    """JSON without blanks, in the order of the source."""
    return json.dumps(value, separators=(",", ":")).encode()


def compile_tree(tree: Path) -> None:
    """Compile every module so that its bytecode is taken without a look at the source's time or content.

    Our own sources stay beside it, so that a traceback in the log quotes them. Of a library the bytecode alone goes
    along: a traceback names file, line and function all the same, and the release has the text.
    """
    for source in sorted(tree.rglob("*.py")):
        ours = source.relative_to(tree).parts[0] in OUR_PACKAGES
        compiled = compileall.compile_file(
            source,
            quiet=1,
            legacy=not ours,
            stripdir=str(tree),
            prependdir="/var/task",
            invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        )
        if not compiled:
            sys.exit(f"package: {source.relative_to(tree)} does not compile with Python {sys.version.split()[0]}.")
        if not ours:
            source.unlink()


def write_zip(tree: Path, archive: Path) -> None:
    """Write every file in the order of its name, with fixed times and modes."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as out:
        for path in sorted(path for path in tree.rglob("*") if path.is_file()):
            entry = zipfile.ZipInfo(path.relative_to(tree).as_posix(), EPOCH)
            mode = 0o755 if ".so" in path.suffixes else 0o644
            entry.external_attr = (0o100000 | mode) << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            out.writestr(entry, path.read_bytes())


if __name__ == "__main__":
    main()
