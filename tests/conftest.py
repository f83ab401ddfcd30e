"""Signals that programs under test get, what botocore reads once, and how hypothesis draws.

A program that begins with a signal ignored goes on ignoring it, and a shell cannot even trap it (bash(1), "trap"): so
it is under nohup and in the background of a script. A handler that does nothing ignores as well, and is not inherited.

What botocore reads once: the descriptions of AWS' services. Each session reads them anew (EC2's takes 0.1 s of CPU),
and nearly each test that asks for a client begins a session. Here all sessions of a process share one loader, as
clients of one session do; what a function's own first session costs is measured in processes of their own (bench/).

How hypothesis draws: the same cases at every run in CI, so that main stays green or red; other ones elsewhere. No clock
fails a test: other work on the machine would.

A failure prints the blob that repeats it (`@reproduce_failure`).
"""

import functools
import os
import signal

import botocore.loaders
import botocore.session
from hypothesis import HealthCheck, settings

from tests.side_by_side import pytest_collection_modifyitems, pytest_xdist_make_scheduler
from tests.summary import pytest_terminal_summary

__all__ = ["pytest_collection_modifyitems", "pytest_terminal_summary", "pytest_xdist_make_scheduler"]

for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, lambda *_: None)

botocore.session.create_loader = functools.cache(botocore.loaders.create_loader)

untimed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.register_profile("ci", untimed, derandomize=True, database=None)
settings.register_profile("local", untimed)
settings.load_profile("ci" if os.environ.get("CI") else "local")
