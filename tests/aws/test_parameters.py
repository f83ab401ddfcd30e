"""Webhook tokens: several are valid at once, a change works without a gap, strangers cannot make us call SSM."""

import pytest

from autoscaler.aws.clients import Clients
from autoscaler.aws.parameters import Parameters, ParameterUnavailable, WebhookTokens
from autoscaler.redaction import Redaction


class Vault:
    """A parameter, a clock, and how often it was read."""

    def __init__(self, value: str) -> None:
        self.value: str | None = value
        self.now = 1000.0
        self.reads = 0

    def read(self, name: str) -> str:
        self.reads += 1
        if self.value is None:
            raise ParameterUnavailable(f"could not read {name}")
        return self.value

    def tokens(self, name: str | None = "/k3s/demo/webhook-token") -> WebhookTokens:
        return WebhookTokens(self.read, name, monotonic=lambda: self.now)


@pytest.mark.parametrize(
    ("value", "token", "accepted"),
    [
        ("one", "one", True),
        ("one\ntwo\n", "one", True),
        ("one\ntwo\n", "two", True),
        ("  one \r\n\n", "one", True),
        ("one", "on", False),
        ("one", "one\n", False),
        ("one", "ONE", False),
        ("one\ntwo", "one\ntwo", False),
        ("", "", False),
        ("\n \n", "", False),
        ("schlüssel", "schlüssel", True),
        ("one", "\udcff", False),
    ],
)
def test_every_listed_token_and_nothing_else(value: str, token: str, *, accepted: bool) -> None:
    assert Vault(value).tokens().accept(token) is accepted


def test_without_a_parameter_nothing_is_accepted_and_nothing_asked() -> None:
    vault = Vault("one")
    assert not vault.tokens(None).accept("one")
    assert not vault.tokens(None).accept("")
    assert vault.reads == 0


def test_tokens_are_kept_for_five_minutes() -> None:
    vault = Vault("one")
    tokens = vault.tokens()
    for _ in range(10):
        assert tokens.accept("one")
        vault.now += 30
    assert vault.reads == 1
    vault.now += 1
    vault.value = "two"
    assert not tokens.accept("one"), "a withdrawn token ends within five minutes"
    assert vault.reads == 2


def test_a_new_token_works_at_once_and_guesses_cost_one_read_in_thirty_seconds() -> None:
    vault = Vault("one")
    tokens = vault.tokens()
    assert tokens.accept("one")
    vault.now += 31
    vault.value = "two\none"
    assert tokens.accept("two")
    assert vault.reads == 2
    for _ in range(100):
        assert not tokens.accept("guess")
        vault.now += 0.29
    assert vault.reads == 2
    vault.now += 2
    assert not tokens.accept("guess")
    assert vault.reads == 3
    assert tokens.accept("one"), "guesses do no harm to others"


def test_a_parameter_that_cannot_be_read_is_an_error_and_not_a_refusal() -> None:
    vault = Vault("one")
    vault.value = None
    tokens = vault.tokens()
    with pytest.raises(ParameterUnavailable):
        tokens.accept("one")
    vault.value = "one"
    assert tokens.accept("one")
    vault.value = None
    vault.now += 299
    assert tokens.accept("one"), "known tokens go on"
    with pytest.raises(ParameterUnavailable):
        tokens.accept("two")


def test_guesses_cost_one_read_in_thirty_seconds_while_the_parameter_cannot_be_read_too() -> None:
    vault = Vault("one")
    tokens = vault.tokens()
    assert tokens.accept("one")
    vault.now += 31
    vault.value = None
    for _ in range(100):
        with pytest.raises(ParameterUnavailable):
            tokens.accept("guess")
        vault.now += 0.29
    assert (vault.reads, tokens.accept("one")) == (2, True)
    vault.now += 2
    vault.value = "two"
    assert tokens.accept("two")
    assert not tokens.accept("one")


@pytest.mark.usefixtures("_moto")
def test_the_value_comes_back_decrypted_and_a_missing_name_is_told(clients: Clients) -> None:
    clients.ssm().put_parameter(Name="/k3s/demo/webhook-token", Value="one\ntwo", Type="SecureString")
    parameters = Parameters(clients, Redaction())
    assert parameters.read("/k3s/demo/webhook-token") == "one\ntwo"
    with pytest.raises(ParameterUnavailable, match="/k3s/demo/nothing") as caught:
        parameters.read("/k3s/demo/nothing")
    assert caught.value.code == "ParameterNotFound"
