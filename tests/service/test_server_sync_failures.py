"""server-sync.sh in a sandbox: what fails says one line, stops nothing else, and is mended by the next minute."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.service.sandbox import CA_HASH
from tests.service.sync_server import ADD_ONS, Server, fresh_server


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return fresh_server(tmp_path / "world")


def denied(name: str) -> Callable[[Server], object]:
    return lambda server: server.write(f"parameters/_k3s_shop_{name}.denied", "")


def refused(verb: str) -> Callable[[Server], object]:
    return lambda server: server.write("cluster/refused", verb + "\n")


def with_(name: str, text: str = "") -> Callable[[Server], object]:
    return lambda server: server.write(name, text)


def without(name: str) -> Callable[[Server], object]:
    return lambda server: (server.world / name).unlink()


FAILURES: dict[str, tuple[Callable[[Server], object], list[str]]] = {
    "no Parameter Store": (
        with_("aws-fails", "Could not connect to the endpoint URL\n"),
        ["the parameters /k3s/shop/ could not be read: Could not connect to the endpoint URL"],
    ),
    "a bundle-info that is none": (
        with_("parameters/_k3s_shop_bundle-info", "many"),
        ['/k3s/shop/bundle-info is "many", not a number of pieces and a SHA-256'],
    ),
    "a piece that is missing": (
        without("parameters/_k3s_shop_bundle_00"),
        ["the bundle could not be fetched: An error occurred (ParameterNotFound)"],
    ),
    "a version that is not told": (
        without("cluster/raw/version"),
        ["the API server did not tell its version: Error from server (InternalError)"],
    ),
    "a token that is none": (
        with_("cluster/token", "warning: something"),
        ["k3s token create printed something else than a token"],
    ),
    "a Secret that may not be written": (
        refused("apply"),
        ["the Secret monitoring/alertmanager-webhook could not be written: Error from server (Forbidden)"],
    ),
    "a namespace that is not there yet": (
        with_("cluster/no-namespace"),
        ["the Secret monitoring/alertmanager-webhook could not be written: Error from server (NotFound)"],
    ),
    "add-ons that may not be changed": (
        refused("patch"),
        [f"{name} could not be put on the server: Error from server (Forbidden)" for name in ADD_ONS],
    ),
    "an API server that is down": (
        with_("cluster/down"),
        ["the API server is not ready: The connection to the server 127.0.0.1:6443 was refused"],
    ),
}


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize(("spoil", "lines"), FAILURES.values(), ids=FAILURES.keys())
def test_a_step_that_fails_says_one_line_and_the_next_minute_mends_it(
    server: Server, spoil: Callable[[Server], object], lines: list[str]
) -> None:
    healthy = {path: path.read_text() for folder in ("parameters", "cluster") for path in files(server.world / folder)}
    spoil(server)
    said = server.minute(code=1)
    failures = [line for line in said if any(line.startswith(expected) for expected in lines)]
    assert len(failures) == len(lines), said
    for path, text in healthy.items():
        path.write_text(text)
    for trouble in ("aws-fails", "cluster/down", "cluster/token", "cluster/no-namespace"):
        (server.world / trouble).unlink(missing_ok=True)
    server.minute()
    assert server.minute() == []
    assert server.secret()["token"] == "current"
    assert server.manifests()
    assert server.read("parameters/_k3s_shop_agent-token").startswith(f"K10{CA_HASH}::")


@pytest.mark.parametrize(
    ("spoil", "done"),
    [
        (denied("bundle_00"), {"server-url", "version", "ca-hash", "agent-token"}),
        (with_("cluster/token", "none"), {"server-url", "version"}),
        (without("cluster/raw/version"), {"server-url", "ca-hash", "agent-token"}),
        (refused("patch"), {"server-url", "version", "ca-hash", "agent-token"}),
        (refused("get"), set()),
    ],
    ids=["bundle", "token", "version", "add-ons", "everything asked"],
)
def test_a_step_that_fails_stops_no_other(server: Server, spoil: Callable[[Server], object], done: set[str]) -> None:
    spoil(server)
    server.minute(code=1)
    assert set(server.published()) == done


def test_an_unknown_parameter_store_renews_no_token(server: Server) -> None:
    server.minute()
    server.write("aws-fails", "ThrottlingException\n")
    server.minute(code=1)
    assert server.read("cluster/tokens") == "1\n"
    assert server.secret()["token"] == "current"


def test_an_api_server_that_is_down_does_not_keep_the_manifests_out(server: Server) -> None:
    server.write("cluster/down", "")
    server.minute(code=1)
    assert server.manifests() == {"a.yaml": "a: 1\n", "b.yaml": "b: 1\n"}
