"""Credentials that open nothing, and moto in this process (single-threaded tests only: its writes are not atomic)."""

from collections.abc import Iterator

import pytest
from moto import mock_aws

from autoscaler.aws.calls import Calls
from autoscaler.aws.clients import Clients

REGION = "eu-central-1"


@pytest.fixture(autouse=True)
def _no_real_account(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ENDPOINT_URL", "AWS_PROFILE", "AWS_SESSION_TOKEN", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")


@pytest.fixture
def calls() -> Calls:
    return Calls()


@pytest.fixture
def clients(calls: Calls) -> Clients:
    return Clients(calls, region=REGION)


@pytest.fixture
def _moto() -> Iterator[None]:
    with mock_aws():
        yield
