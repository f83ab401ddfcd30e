"""The garbage collector rests during a look: what a look makes is gone when it ends, without any search for circles.

A look at thousands of pods makes objects by the hundred thousand that all live until it ends. The collector would go
through them again and again and find nothing: a sixth of such a look's CPU time (docs/performance.md).
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collector_at_rest() -> Iterator[None]:
    """Until its end no circle is looked for. Afterwards the collector is as it was, also where the look failed."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
