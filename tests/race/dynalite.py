"""A DynamoDB whose conditional writes are atomic: npm's dynalite as a process of its own, and clients of it.

moto's are not (two winners of one compare-and-set): no race is tested on it. dynalite knows no TTL, and leaves the old
item out of a failed condition (`ReturnValuesOnConditionCheckFailure`): the store reads it again.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from autoscaler.aws.calls import Calls
from autoscaler.aws.clients import Clients
from autoscaler.simulator.stack.processes import StackError, Supervisor, repository_root
from tests.aws.table import create_tables

REGION: Final = "eu-central-1"
START_TIMEOUT_S: Final = 30.0
SERVER: Final = """
const server = require('dynalite')({ createTableMs: 0 })
// Node hangs up after 5 s of silence, and with one attempt a call the next one would fail.
server.keepAliveTimeout = 600000
server.listen(0, '127.0.0.1', () => console.log(server.address().port))
"""


@contextlib.contextmanager
def dynalite(folder: Path) -> Iterator[str]:
    """Run one with both tables, its log in `folder`; gives its address. Raises StackError where it does not start."""
    if not (repository_root() / "node_modules" / "dynalite").is_dir():
        raise StackError("dynalite is not installed: run `make setup` first.")
    port_path = folder / "dynalite.port"
    with Supervisor(folder) as supervisor:
        running = supervisor.start("dynalite", ["node", "-e", SERVER], stdout_path=port_path)
        supervisor.wait_ready(running, lambda: port_path.read_text().endswith("\n"), timeout_s=START_TIMEOUT_S)
        url = f"http://127.0.0.1:{int(port_path.read_text())}"
        create_tables(clients_at(url))
        yield url


def clients_at(url: str) -> Clients:
    """Clients whose DynamoDB is this one; the environment, which is where an endpoint comes from, is put back."""
    account = {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }
    foreign = ("AWS_PROFILE", "AWS_SESSION_TOKEN")
    before = {name: os.environ.get(name) for name in (*account, *foreign)}
    for name in foreign:
        os.environ.pop(name, None)
    os.environ.update(account)
    try:
        clients = Clients(Calls(), region=REGION)
        clients.dynamodb()  # made here: it keeps the endpoint and the credentials that it was made with
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
    return clients
