"""How hypothesis draws: the same cases at every run in CI, so that main stays green or red; other ones elsewhere.

A failure prints the blob that repeats it (`@reproduce_failure`).
"""

import os

from hypothesis import settings

settings.register_profile("ci", derandomize=True, print_blob=True, database=None)
settings.register_profile("local", print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")
