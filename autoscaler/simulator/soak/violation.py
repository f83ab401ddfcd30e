"""An invariant that does not hold."""


class Violation(Exception):
    """`invariant` is the name of the function that found it."""

    def __init__(self, invariant: str, message: str) -> None:
        super().__init__(invariant, message)
        self.invariant = invariant
        self.message = message

    def __str__(self) -> str:
        return f"{self.invariant}: {self.message}"
