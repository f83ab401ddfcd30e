"""Bugs of what the scheduler asks: a server's word that is not used, and pods whose places nobody looks at."""

from typing import Final

import autoscaler.decide.scheduling.book
from tests.soak.mutants.put import Mutant, put

Book = autoscaler.decide.scheduling.book.Book


def rules_ignored() -> None:
    """What a server told is asked for, kept, and not looked at."""
    put(Book, "_told_of", lambda _book, _pod: None)


def companions_forgotten() -> None:
    """Where the pods are that others avoid, or must be near, counts for nothing."""
    put(Book, "placed", lambda _book, _owner: None)


MUTANTS: Final[tuple[Mutant, ...]] = (rules_ignored, companions_forgotten)
