"""A stand-in for `kubectl` on a K3s server: the API server is one JSON file, changed under a lock.

`stand_in_kubectl.py WORLD COMMAND...`. It answers the commands that node-command.sh gives, in kubectl's words, and
keeps what matters: resourceVersion as the precondition of a patch, a UID as that of a delete, evictions against
budgets. Anything else is an error, so a new command of the script cannot pass unnoticed.
"""

import fcntl
import json
import os
import re
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

TOKEN = re.compile(r"\{([^}]*)\}|([^{]+)")
BUDGET = "Cannot evict pod as it would violate the pod's disruption budget."


class World:
    """The file. It is replaced whole: whoever is killed in the middle of a change leaves the world as it was."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def open(self) -> Any:
        with self.path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            state = json.loads(self.path.read_text())
            yield state
            written = self.path.with_suffix(f".{os.getpid()}")
            written.write_text(json.dumps(state))
            written.replace(self.path)


def fail(message: str) -> NoReturn:
    sys.stderr.write(message + "\n")
    sys.exit(1)


def field(value: Any, path: str) -> list[Any]:
    """kubectl's JSONPath, as far as the script uses it: names, escaped dots, [*]."""
    values = [value]
    for part in re.findall(r"(?:\\.|[^.\\])+", path):
        name, every = re.fullmatch(r"(.*?)(\[\*\])?", part.replace("\\.", ".")).groups()  # type: ignore[union-attr] # matches anything
        values = [item[name] for item in values if isinstance(item, dict) and name in item]
        if every:
            values = [item for found in values for item in found]
    return values


def text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def render(value: Any, tokens: list[tuple[str, str]]) -> str:
    out, index = "", 0
    while index < len(tokens):
        code, literal = tokens[index]
        if literal:
            out += literal
        elif code.startswith("range "):
            depth, end = 1, index
            while depth:
                end += 1
                depth += tokens[end][0].startswith("range ") - (tokens[end][0] == "end")
            out += "".join(render(item, tokens[index + 1 : end]) for item in field(value, code.removeprefix("range .")))
            index = end
        elif code.startswith('"'):
            out += json.loads(code)
        else:
            out += " ".join(text(found) for found in field(value, code.removeprefix(".")))
        index += 1
    return out


def node_of(state: dict[str, Any], name: str) -> dict[str, Any]:
    if name not in state["nodes"]:
        fail(f'Error from server (NotFound): nodes "{name}" not found')
    node: dict[str, Any] = state["nodes"][name]
    return node


def conflict(name: str) -> str:
    return f'Error from server (Conflict): Operation cannot be fulfilled on nodes "{name}"'


def touch(node: dict[str, Any]) -> None:
    node["metadata"]["resourceVersion"] = str(int(node["metadata"]["resourceVersion"]) + 1)


def merge(target: dict[str, Any], patch: dict[str, Any]) -> None:
    for key, value in patch.items():
        if value is None:
            target.pop(key, None)
        elif isinstance(value, dict):
            merge(target.setdefault(key, {}), value)
        else:
            target[key] = value


def get(world: World, arguments: list[str]) -> None:
    template = arguments[arguments.index("-o") + 1].removeprefix("jsonpath=")
    with world.open() as state:
        if arguments[0] == "node":
            value: Any = node_of(state, arguments[1])
        elif arguments[0] == "persistentvolumes":
            value = {"items": state["volumes"]}
        else:
            wanted = arguments[arguments.index("--field-selector") + 1].removeprefix("spec.nodeName=")
            value = {"items": [pod for pod in state["pods"] if pod["spec"]["nodeName"] == wanted]}
    sys.stdout.write(render(value, TOKEN.findall(template)))


def patch(world: World, arguments: list[str]) -> None:
    change = json.loads(arguments[arguments.index("-p") + 1])
    with world.open() as state:
        node = node_of(state, arguments[1])
        if state["faults"].get("conflicts", 0) > 0:
            state["faults"]["conflicts"] -= 1
            touch(node)
        lost = state["faults"].pop("lose_patch_answer", False)
        expected = change["metadata"].pop("resourceVersion")
        if expected != node["metadata"]["resourceVersion"]:
            conflicted = True
        else:
            conflicted = False
            merge(node, change)
            touch(node)
            state["writes"].append(change)
    if conflicted:
        fail(f"{conflict(arguments[1])}: the object has been modified")
    if lost:
        fail("Unable to connect to the server: unexpected EOF")


def annotate(world: World, arguments: list[str]) -> None:
    with world.open() as state:
        node = node_of(state, arguments[1])
        node["metadata"]["annotations"].pop(arguments[2].removesuffix("-"), None)
        touch(node)


def evictable(pod: dict[str, Any], node: str) -> bool:
    kinds = {owner["kind"] for owner in pod["metadata"]["ownerReferences"]}
    return pod["spec"]["nodeName"] == node and "DaemonSet" not in kinds


def drain(world: World, arguments: list[str]) -> None:
    name = arguments[0]
    timeout_s = float(next(item for item in arguments if item.startswith("--timeout=")).split("=")[1].rstrip("s"))
    dry = "--dry-run=server" in arguments
    with world.open() as state:
        if not dry:
            state["drains"].append(arguments)
        if not dry and node_of(state, name)["spec"].get("unschedulable") is not True:
            fail(f"the stand-in was asked to drain {name} before its cordon")
    deadline = time.monotonic() + min(timeout_s, 0.2 if dry else timeout_s)
    while True:
        with world.open() as state:
            pods = [pod for pod in state["pods"] if evictable(pod, name)]
            budgets = [pod for pod in pods if pod.get("budget") == 0]
            free = [pod for pod in pods if pod not in budgets and not pod.get("stuck")]
            if not dry and free:
                state["pods"].remove(free[0])
                sys.stdout.write(f"pod/{free[0]['metadata']['name']} evicted\n")
        if (dry and not budgets) or not pods:
            sys.stdout.write(f"node/{name} drained\n")
            return
        if budgets:
            blocked = budgets[0]["metadata"]["name"]
            sys.stderr.write(f'error when evicting pods/"{blocked}" -n "shop" (will retry after 5s): {BUDGET}\n')
        if time.monotonic() > deadline:
            pending = f'There are pending pods in node "{name}" when an error occurred'
            fail(f"{pending}: global timeout reached: {timeout_s:.0f}s")
        sys.stdout.flush()
        time.sleep(state["eviction_s"])


def delete(world: World, arguments: list[str]) -> None:
    name = arguments[1].rsplit("/", 1)[1]
    options = json.loads(Path(arguments[3]).read_text())
    with world.open() as state:
        node = node_of(state, name)
        if state["faults"].pop("replaced_before_delete", False):
            node["metadata"]["uid"] = "another"
        matches = options["preconditions"]["uid"] == node["metadata"]["uid"]
        if matches:
            del state["nodes"][name]
    if not matches:
        fail(f"{conflict(name)}: Precondition failed: UID in precondition")


COMMANDS: dict[str, Callable[[World, list[str]], None]] = {
    "get": get,
    "patch": patch,
    "annotate": annotate,
    "drain": drain,
    "delete": delete,
}


def main() -> None:
    world = World(Path(sys.argv[1]))
    command, *arguments = sys.argv[2:]
    with world.open() as state:
        state["calls"].append([command, *arguments])
        down = state["faults"].get("down", [])
        hangs = command in state["faults"].get("hangs", [])
    if hangs:
        time.sleep(60)
    if command in down:
        fail("The connection to the server 127.0.0.1:6443 was refused - did you specify the right host or port?")
    COMMANDS[command](world, arguments)


if __name__ == "__main__":
    main()
