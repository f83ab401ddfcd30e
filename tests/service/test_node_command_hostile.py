"""node-command.sh against names and fields that somebody chose: one line, one meaning, nothing shifted."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service.k3s_server import NODE, PROVIDER_ID, Server, node, pod, serving, volume


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serving(tmp_path) as made:
        yield made


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
    server.cluster.edit_node(NODE, spec={"providerID": text})
    result = server.run("drain")
    assert (result["outcome"], result["rule"]) == ("refused", "identity")
    assert server.run("preflight", node=f"a{text}")["rule"] == "input"
    server.cluster.edit_node(NODE, spec={"providerID": PROVIDER_ID})
    server.cluster.add(pod(text, ""))
    assert server.run("preflight")["rule"] == "bare-pod"
    assert server.run("status")["outcome"] == "succeeded"


def test_a_line_break_in_a_field_of_the_node_shifts_no_other(server: Server) -> None:
    forged = f"{PROVIDER_ID}\ntrue\n0\nop1"
    server.cluster.edit_node(NODE, spec={"providerID": forged})
    before = server.node
    for verb in ("preflight", "drain", "uncordon", "delete-node", "status"):
        result = server.run(verb)
        assert result["outcome"] == "failed"
        assert "line break" in result["message"]
    assert server.node == before


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_an_inspection_stays_one_line_of_json_whatever_a_kubelet_writes(server: Server, text: str) -> None:
    text = text.replace("\0", "")
    annotations = {"k3s-autoscaler/operation": text, "k3s-autoscaler/fence": text, text: text}
    server.cluster.edit_node(NODE, annotations=annotations)
    server.cluster.nodes[NODE]["status"]["conditions"][1] |= {
        "message": text,
        "status": text,
        "lastTransitionTime": text,
    }
    server.cluster.nodes[NODE]["spec"]["taints"] = [{"key": text, "value": text, "effect": text}] * 8
    name = text[:253]
    server.cluster.add(*[pod(f"{name}-{n}", "", annotations={"karpenter.sh/do-not-disrupt": "true"}) for n in range(9)])
    here = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [NODE]}]}
    server.cluster.volumes += [volume(f"{name}-{n}", here) for n in range(40)]
    result = server.run("inspect")
    assert (result["outcome"], result["inspection"]["node"]) == ("succeeded", NODE)
    assert result["inspection"]["ready"] is False
    assert result["inspection"]["fence"] == 0


def test_no_node_passes_for_another_by_what_its_kubelet_wrote(server: Server) -> None:
    """It may at most hold up the end of the machine that it names."""
    other = "worker-i-0fedcba9876543210"
    server.cluster.nodes = {other: node(other)}
    for provider_id, outcome in (
        (f'x","providerID":"{PROVIDER_ID}', "refused"),
        (f"x\n{NODE}\x1f{PROVIDER_ID}", "refused"),
        (f"aws:///a/i-1\n{NODE}\x1f\x1f\x1f{PROVIDER_ID}x", "no_such_node"),
    ):
        spec = {"providerID": provider_id}
        server.cluster.edit_node(other, spec=spec, annotations={"a": f'"providerID":"{PROVIDER_ID}"'})
        assert server.run("inspect")["outcome"] == outcome
    server.cluster.nodes["true"] = node("true")
    assert server.run("inspect")["inspection"]["node"] == "true"
