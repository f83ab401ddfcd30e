"""What a check of several values found: every fault a sentence of its own."""

from collections.abc import Iterable


class Faults(ValueError):
    """Values that do not fit together. Each sentence names every field that it is about, by its whole path."""

    def __init__(self, sentences: Iterable[str]) -> None:
        self.sentences = tuple(sentences)
        super().__init__("; ".join(self.sentences))


def refuse(sentences: Iterable[str]) -> None:
    """Raise Faults if there are any."""
    found = tuple(sentences)
    if found:
        raise Faults(found)
