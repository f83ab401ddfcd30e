"""One module a trigger: authenticate, parse, dedupe, reconcile, respond.

Importing them makes objects by the ten thousand, which stay: to look among them for garbage, again and again, is an
eighth of a cold start's CPU time (docs/performance.md). So the collector rests from here until `imported`.
"""

import gc
from typing import Final

from autoscaler import patterns

gc.disable()
patterns.remember()  # before a library is imported that would compile its own


BETWEEN_COLLECTIONS: Final = 100_000
"""New objects, where the default is 2,000: what a first webhook imports stays, too. During a look the collector rests
altogether (autoscaler/collector.py)."""


def imported() -> None:
    """Called by a handler's module when all is imported: the collector works on, and passes those objects over."""
    gc.freeze()
    gc.set_threshold(BETWEEN_COLLECTIONS)
    gc.enable()
