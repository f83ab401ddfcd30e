"""How a bug is put in: by replacing one attribute of a production module, for good in this process."""

from collections.abc import Callable

Mutant = Callable[[], None]


def put(owner: object, name: str, value: object) -> None:
    """Replace what is there; a name that is gone is an error: the mutant would mutate nothing."""
    if not hasattr(owner, name):
        raise AttributeError(f"{owner} has no {name}: this mutant would mutate nothing, mend it")
    setattr(owner, name, value)
