"""Credentials that open nothing: the SDK signs what is never sent."""

import pytest

from tests.service.conftest import Template
from tests.service.iam.rendered import REGION, Rendered


@pytest.fixture(autouse=True)
def _no_real_account(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ENDPOINT_URL", "AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_USE_DUALSTACK_ENDPOINT", "POLICY_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)


@pytest.fixture(scope="session")
def service(template: Template) -> Rendered:
    """The service with nothing optional, for the cluster `demo`."""
    return Rendered(template)


@pytest.fixture(scope="session")
def full_service(full_template: Template) -> Rendered:
    """The service with every optional part, for the cluster `shop`."""
    return Rendered(full_template)


@pytest.fixture(scope="session")
def cluster(cluster_template: Template) -> Rendered:
    """The cluster stack with nothing optional."""
    return Rendered(cluster_template)


@pytest.fixture(scope="session")
def full_cluster(full_cluster_template: Template) -> Rendered:
    """The cluster stack with every optional part."""
    return Rendered(full_cluster_template)
