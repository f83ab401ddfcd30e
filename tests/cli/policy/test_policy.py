"""`k3s-autoscaler policy` on an emulated Parameter Store and table: what a person sees, and what a look sees then."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ReadTimeoutError
from typer.testing import CliRunner

from autoscaler.aws.clients import Clients
from autoscaler.aws.dynamodb import DynamoStateStore
from autoscaler.aws.parameters import ParameterUnavailable, read_offered
from autoscaler.cli.change import Contended
from autoscaler.cli.main import app
from autoscaler.cli.policy.command import take_up
from autoscaler.cli.policy.parameter import Overtaken, PolicyParameter
from autoscaler.live_policy import in_force
from autoscaler.model import OfferedPolicy, PolicyOverride, State
from autoscaler.policy import Policy, policy_hash
from autoscaler.policy_text import parse_policy
from autoscaler.ports import Conflict, StoreUnavailable
from tests.aws.table import STATE, create_tables
from tests.cli.test_target import deploy

NAME = "/k3s/demo/policy"
DEPLOYED = "version: 1\nworkers: {min: 3, max: 20}\n"


@pytest.fixture
def store(clients: Clients, _moto: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> DynamoStateStore:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CLUSTER_ID", "demo")
    monkeypatch.setenv("STATE_TABLE", STATE)
    monkeypatch.delenv("POLICY_FILE", raising=False)
    Path("policy.yml").write_text(DEPLOYED)
    create_tables(clients)
    return DynamoStateStore(clients, table=STATE, cluster_id="demo", history_days=30)


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["policy", *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def set_(text: str, *options: str) -> tuple[int, str, str]:
    Path("changes.yml").write_text(text)
    return run("set", "changes.yml", *options)


def holds(store: DynamoStateStore) -> tuple[int, int | None]:
    """workers.max as a look would have it, and the version that it comes from."""
    found = in_force(parse_policy(DEPLOYED), store.load()[0].policy_override)
    return found.policy.workers.max, found.version


def test_set_roll_back_and_clear(store: DynamoStateStore, clients: Clients) -> None:
    assert run("show") == (
        0,
        f"The deployed policy holds alone: policy_hash {policy_hash(parse_policy(DEPLOYED))}.\n",
        "",
    )

    code, out, err = set_("workers: {max: 30}\n")
    assert (code, err, holds(store)) == (0, "", (30, 1))
    assert out.startswith("Version 1 of /k3s/demo/policy lies over the deployed policy: policy_hash ")
    assert set_("workers: {max: 40}  # the sale\n")[0] == 0
    assert holds(store) == (40, 2)
    assert run("show")[1].endswith("\nworkers: {max: 40}  # the sale\n")

    code, out, _ = run("rollback")
    assert (code, holds(store)) == (0, (30, 3))
    code, out, _ = run("history")
    assert code == 0
    rows = [line.split("\t") for line in out.splitlines()]
    assert [(row[1], row[2]) for row in rows] == [("3", "yes"), ("2", ""), ("1", "")]
    assert "workers: {max: 40} # the sale" in out
    assert run("rollback", "2")[0] == 0
    assert holds(store) == (40, 4)

    code, out, _ = run("clear")
    assert (code, holds(store)[0]) == (0, 20)
    assert out.startswith("Version 5 of /k3s/demo/policy changes nothing about the deployed policy: policy_hash ")
    assert len(PolicyParameter(clients, "demo").versions()) == 5, "the versions are kept"
    assert run("rollback")[0] == 0
    assert holds(store) == (40, 6)


def test_how_do_i_roll_back(store: DynamoStateStore) -> None:
    """On call: `policy history` says who changed what and when, `policy rollback` takes it back."""
    set_("scale_down: {cool_down_s: 900}\n")
    set_("workers: {max: 3}  # a slip\n")
    _, out, _ = run("history")
    slip, before = (line.split("\t") for line in out.splitlines())
    assert (slip[1], slip[2], slip[-1]) == ("2", "yes", "workers: {max: 3} # a slip")
    assert (before[1], before[2], before[-1]) == ("1", "", "scale_down: {cool_down_s: 900}")
    code, out, err = run("rollback")
    assert (code, err) == (0, "")
    assert out.startswith("Version 3 of /k3s/demo/policy lies over the deployed policy: policy_hash ")
    assert holds(store) == (20, 3)


def test_the_first_change_can_be_rolled_back_too(store: DynamoStateStore) -> None:
    set_("workers: {max: 30}")
    assert run("rollback")[0] == 0
    assert holds(store)[0] == 20


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("set", "none.yml"), "none.yml could not be read: No such file or directory."),
        (("set", "bad.yml"), "Nothing is changed. The changes make no valid policy: 2 things are wrong: (1) workers"),
        (("set", "locked.yml"), "history_days cannot be changed live"),
        (("rollback",), "There is no parameter /k3s/demo/policy: nothing was changed, so"),
        (("show", "--policy", "none.yml"), "none.yml could not be read"),
        (("show", "--cluster", "a b"), "is no cluster id"),
    ],
)  # fmt: skip
def test_wrong_input_changes_nothing(
    store: DynamoStateStore, clients: Clients, arguments: tuple[str, ...], said: str
) -> None:
    Path("bad.yml").write_text("workers: {max: ten, mni: 1}")
    Path("locked.yml").write_text("history_days: 3")
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1
    assert store.load()[1] == 0
    assert read_offered(clients, NAME).text is None


@pytest.mark.parametrize("text", ["", " \n", "# nothing\n", "null\n"])
def test_a_file_that_changes_nothing_takes_every_change_back(store: DynamoStateStore, text: str) -> None:
    """Parameter Store keeps no empty text."""
    set_("workers: {max: 30}")
    assert set_(text)[0] == 0
    assert holds(store) == (20, 2)


@pytest.mark.parametrize(
    ("deployed", "told"),
    [
        pytest.param(policy_hash(parse_policy(DEPLOYED)), False, id="the one that is deployed"),
        pytest.param("0123456789ab", True, id="another one"),
        pytest.param("unknown", False, id="nobody knows"),
    ],
)
def test_a_file_that_is_not_the_deployed_one_is_told(
    store: DynamoStateStore, clients: Clients, monkeypatch: pytest.MonkeyPatch, deployed: str, told: bool
) -> None:
    """What is checked against another file may be refused, or taken, by what does not hold."""
    for name in ("CLUSTER_ID", "STATE_TABLE"):
        monkeypatch.delenv(name)
    deploy(clients, "prod", "demo", StateTableName=STATE, PolicyHash=deployed)
    code, out, err = set_("workers: {max: 30}", "--stage", "prod")
    assert (code, out.startswith("Version 1 of"), holds(store)) == (0, True, (30, 1))
    assert ("is deployed: name that file by --policy (or POLICY_FILE)" in err) is told
    assert bool(err) is told


@pytest.mark.usefixtures("store")
def test_a_version_that_is_not_kept_is_told() -> None:
    set_("workers: {max: 30}")
    code, _, err = run("rollback", "9")
    assert (code, err) == (2, "Version 9 of /k3s/demo/policy is not kept: 1 to 1 are.\n")


def test_an_edit_by_hand_is_seen_and_taken_up_by_apply(store: DynamoStateStore, clients: Clients) -> None:
    set_("workers: {max: 30}")
    clients.ssm().put_parameter(Name=NAME, Value="workers: {max: 2}", Type="String", Overwrite=True)
    assert (
        "has changed and is not taken up, for version 2 stands in it: `k3s-autoscaler policy apply`" in run("show")[1]
    )
    code, out, _ = run("apply")
    assert (code, holds(store)) == (1, (30, 1))
    assert "Version 2 of the policy's parameter is refused, and version 1 stays" in out
    clients.ssm().put_parameter(Name=NAME, Value="workers: {max: 31}", Type="String", Overwrite=True)
    assert (run("apply")[0], holds(store)) == (0, (31, 3))
    clients.ssm().delete_parameter(Name=NAME)
    assert "it does not exist: `k3s-autoscaler policy apply`" in run("show")[1]
    assert (run("clear")[0], holds(store)) == (0, (20, None))


@pytest.mark.usefixtures("store")
def test_json_for_programs() -> None:
    code, out, _ = set_("workers: {max: 30}", "--json")
    document = json.loads(out)
    assert (code, document["version"], document["taken_up"], document["problem"]) == (0, 1, True, "")
    assert document["text"] == "workers: {max: 30}"
    (row,) = json.loads(run("history", "--json")[1])
    assert (row["version"], row["holds"], row["text"]) == (1, True, "workers: {max: 30}")
    assert json.loads(run("show", "--json")[1]) == document


@pytest.mark.usefixtures("store")
def test_a_deployment_that_no_longer_fits_is_shown() -> None:
    set_("workers: {min: 8}")
    Path("policy.yml").write_text("version: 1\nworkers: {max: 5}\n")
    assert "does not fit the policy that is deployed, which holds alone" in run("show")[1]


# ----------------------------------------------------------------------------------------------- races and lost answers


class Table:
    """A state item whose writes go wrong in turn."""

    def __init__(self, *wrongs: Exception | None, wrote: bool = False) -> None:
        self.wrongs, self.wrote = list(wrongs), wrote
        self.state, self.version = State(), 0

    def load(self) -> tuple[State, int]:
        return self.state, self.version

    def save(self, state: State, expected_version: int) -> int:
        wrong = self.wrongs.pop(0) if self.wrongs else None
        if wrong is None or self.wrote:
            self.state, self.version = state, expected_version + 1
        if wrong is not None:
            raise wrong
        return self.version


OFFER = OfferedPolicy(text="workers: {max: 12}", version=3, changed_at_s=5)
TAKEN = PolicyOverride(version=3, text="workers: {max: 12}", changed_at_s=5)


@pytest.mark.parametrize(
    "table",
    [
        Table(),
        Table(Conflict("x"), Conflict("x")),
        Table(StoreUnavailable("x", effect_unknown=True)),
        Table(StoreUnavailable("x", effect_unknown=True), wrote=True),
    ],
)
def test_it_is_taken_up_once_whatever_becomes_of_a_write(table: Any) -> None:
    assert take_up(table, OFFER, Policy(version=1), sleep=lambda _: None).policy_override == TAKEN
    assert (table.state.policy_override, table.version) == (TAKEN, 1)


def test_who_cannot_write_says_so() -> None:
    table: Any = Table(*[Conflict("x")] * 9)
    with pytest.raises(Contended, match="`k3s-autoscaler policy apply` takes it up"):
        take_up(table, OFFER, Policy(version=1), sleep=lambda _: None)
    with pytest.raises(StoreUnavailable):
        take_up(Table(StoreUnavailable("x")), OFFER, Policy(version=1))  # type: ignore[arg-type]


def after_a_write(clients: Clients, happens: Callable[[], None]) -> None:
    """Something happens once, when PutParameter has come back."""
    events = clients.ssm().meta.events

    def hook(**_: Any) -> None:
        events.unregister("after-call.ssm.PutParameter", unique_id="once")
        happens()

    events.register("after-call.ssm.PutParameter", hook, unique_id="once")


@pytest.mark.usefixtures("_moto")
def test_somebody_elses_write_at_the_same_moment_is_told(clients: Clients) -> None:
    parameter = PolicyParameter(clients, "demo")
    parameter.write("{}")

    def also() -> None:
        clients.ssm().put_parameter(Name=NAME, Value="workers: {max: 9}", Type="String", Overwrite=True)

    after_a_write(clients, also)
    with pytest.raises(Overtaken, match="their version 3 stands"):
        parameter.write("workers: {max: 8}")


@pytest.mark.usefixtures("_moto")
def test_a_write_whose_answer_was_lost_counts_if_it_stands_there(clients: Clients) -> None:
    parameter = PolicyParameter(clients, "demo")

    def lost() -> None:
        raise ReadTimeoutError(endpoint_url="ssm")

    after_a_write(clients, lost)
    assert parameter.write("workers: {max: 8}").version == 1


@pytest.mark.usefixtures("_moto")
def test_a_refused_write_is_a_failure(clients: Clients) -> None:
    with pytest.raises(ParameterUnavailable):
        PolicyParameter(clients, "demo").write("")
