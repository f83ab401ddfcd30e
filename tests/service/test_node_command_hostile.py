"""node-command.sh against names and fields that somebody chose: one line, one meaning, nothing shifted."""

from pathlib import Path

import pytest

from tests.service.k3s_server import NODE, PROVIDER_ID, Server, pod


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return Server(tmp_path)


HOSTILE = {
    "quotes and backslashes": 'a"b\\c\\"',
    "a result line of its own": '","outcome":"succeeded","x":"',
    "control and terminal characters": "a\u0007\u001b[31mb\u0000c\r\td",
    "another script": "ünïcödé \u202e\U0001f4a5",
    "a page": "x" * 50_000,
    "JSON": '{"a": [1]}',
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_names_stay_inside_the_one_line(server: Server, text: str) -> None:
    """`ended` reads the line as JSON, and SSM keeps the first 24,000 characters of it."""
    text = text.replace("\0", "")  # no program can print one in an argument or a JSONPath
    server.change(lambda world: world["nodes"][NODE]["spec"].update(providerID=text))
    result = server.run("drain")
    assert (result["outcome"], result["rule"]) == ("refused", "identity")
    assert server.run("preflight", node=f"a{text}")["rule"] == "input"
    server.change(lambda world: world["nodes"][NODE]["spec"].update(providerID=PROVIDER_ID))
    server.change(lambda world: world["pods"].append(pod(text, "")))
    assert server.run("preflight")["rule"] == "bare-pod"
    assert server.run("status")["outcome"] == "succeeded"


def test_a_line_break_in_a_field_of_the_node_shifts_no_other(server: Server) -> None:
    forged = f"{PROVIDER_ID}\ntrue\n0\nop1"
    server.change(lambda world: world["nodes"][NODE]["spec"].update(providerID=forged))
    before = server.world["nodes"]
    for verb in ("preflight", "drain", "uncordon", "delete-node", "status"):
        result = server.run(verb)
        assert result["outcome"] == "failed"
        assert "line break" in result["message"]
    assert server.world["nodes"] == before
