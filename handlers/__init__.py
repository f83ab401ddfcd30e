"""One module a trigger: authenticate, parse, dedupe, reconcile, respond.

Importing them makes objects by the ten thousand, which stay: to look among them for garbage, again and again, is an
eighth of a cold start's CPU time (docs/performance.md). So the collector rests from here until `imported`.
"""

import gc

gc.disable()


def imported() -> None:
    """Called by a handler's module when all is imported: the collector works on, and passes those objects over."""
    gc.freeze()
    gc.enable()
