"""Changes the webhook's bearer tokens: one a line, the first is current, every listed one is accepted.

Parameter Store has versions and no compare-and-set: PutParameter overwrites whatever stands there. So creation is done
without `Overwrite` (it fails where a parameter exists), and after every write what stands there is read again and held
against what was written.
"""

from collections.abc import Callable
from enum import StrEnum
from typing import Final, Protocol

import msgspec

from autoscaler.aws.clients import Clients
from autoscaler.aws.failures import told_as
from autoscaler.aws.parameters import ParameterUnavailable

TOKEN_BYTES: Final = 32
"""256 bits."""
DESCRIPTION: Final = "Bearer tokens of the autoscaler's webhook: one a line, the first is current, each is accepted"
WRITE_ATTEMPTS: Final = 2


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """What the parameter holds."""

    tokens: tuple[str, ...]
    version: int


class TokenParameter(Protocol):
    """The parameter, as far as a rotation needs it."""

    def read(self) -> Stored | None:
        """Return what stands there; None where there is no parameter. Raises ParameterUnavailable."""
        ...

    def write(self, tokens: tuple[str, ...], *, create: bool) -> int:
        """Write, or create and fail where it exists; returns the version. Raises ParameterUnavailable."""
        ...


class Wish(StrEnum):
    """What is asked for."""

    ROTATE = "rotate"
    ENSURE = "ensure"
    DROP_PREVIOUS = "drop_previous"


class Done(StrEnum):
    """What came of it."""

    CREATED = "created"
    ROTATED = "rotated"
    DROPPED = "dropped"
    KEPT = "kept"
    """Nothing was to do, and nothing was written."""


class Rotation(msgspec.Struct, frozen=True, kw_only=True):
    """What stands in the parameter now."""

    done: Done
    tokens: tuple[str, ...]
    version: int
    ended: int
    """Tokens that were accepted before and are not any more."""
    overwritten: int | None = None
    """The version that somebody else wrote meanwhile and that this change replaced unseen."""


class Raced(Exception):
    """Somebody else changes the parameter at this moment; the message says what stands there."""


class MissingParameter(Exception):
    """There is nothing whose previous token could be dropped."""


def change_tokens(parameter: TokenParameter, wish: Wish, *, new_token: Callable[[], str]) -> Rotation:
    """Carry the wish out. A lost answer is recognised by what stands there afterwards, so it is done once.

    Raises ParameterUnavailable, Raced, MissingParameter.
    """
    before = parameter.read()
    kept = _kept(before, wish)
    if kept is not None:
        return kept
    tokens = _wanted(before, wish, new_token)
    version = _write(parameter, before, tokens)
    after = parameter.read()
    if after is None or after.tokens != tokens:
        stands = "no parameter stands there now" if after is None else f"version {after.version} of somebody else"
        raise Raced(
            f"somebody else changed the token at the same time: {stands}, and what was made here is not accepted; "
            "run the command again when nobody else does"
        )
    expected = before.version + 1 if before is not None else 1
    known = set(tokens)
    return Rotation(
        done=_done(before, wish),
        tokens=tokens,
        version=after.version,
        ended=len([token for token in (before.tokens if before is not None else ()) if token not in known]),
        overwritten=expected if version is not None and version > expected else None,
    )


def _kept(before: Stored | None, wish: Wish) -> Rotation | None:
    """The answer where nothing is to do."""
    if wish is Wish.DROP_PREVIOUS:
        if before is None or not before.tokens:
            raise MissingParameter("there is no token yet, so there is no previous one: run the command without it")
        nothing_to_do = len(before.tokens) == 1
    else:
        nothing_to_do = wish is Wish.ENSURE and before is not None and bool(before.tokens)
    if not nothing_to_do or before is None:
        return None
    return Rotation(done=Done.KEPT, tokens=before.tokens, version=before.version, ended=0)


def _wanted(before: Stored | None, wish: Wish, new_token: Callable[[], str]) -> tuple[str, ...]:
    current = before.tokens[:1] if before is not None else ()
    return current if wish is Wish.DROP_PREVIOUS else (new_token(), *current)


def _done(before: Stored | None, wish: Wish) -> Done:
    if wish is Wish.DROP_PREVIOUS:
        return Done.DROPPED
    return Done.ROTATED if before is not None and before.tokens else Done.CREATED


def _write(parameter: TokenParameter, before: Stored | None, tokens: tuple[str, ...]) -> int | None:
    """Write once; the version, or None where the answer was lost and the write had happened."""
    for attempt in range(WRITE_ATTEMPTS):
        try:
            return parameter.write(tokens, create=before is None)
        except ParameterUnavailable as error:
            if error.code == "ParameterAlreadyExists":
                after = parameter.read()
                if after is not None and after.tokens == tokens:
                    return None  # ours: the answer of an earlier try was lost
                raise Raced(
                    "somebody else created the token at the same time, and theirs stands: "
                    "run the command again to rotate it, or leave it"
                ) from error
            if not error.effect_unknown:
                raise
            after = parameter.read()
            if after is not None and after.tokens == tokens:
                return None
            if after != before:
                raise Raced(
                    "somebody else changed the token at the same time, and theirs stands: "
                    "run the command again when nobody else does"
                ) from error
            if attempt + 1 == WRITE_ATTEMPTS:
                raise
    raise AssertionError("the last attempt returns or raises")


class SsmTokenParameter:
    """`/k3s/<cluster>/webhook-token` in Parameter Store, encrypted under the account's own key `aws/ssm`."""

    def __init__(self, clients: Clients, name: str) -> None:
        self._clients = clients
        self.name = name

    def read(self) -> Stored | None:
        """Return what stands there; None where there is no parameter. Raises ParameterUnavailable."""
        try:
            with told_as(ParameterUnavailable, f"read the parameter {self.name}"):
                answer = self._clients.ssm().get_parameter(Name=self.name, WithDecryption=True)
        except ParameterUnavailable as error:
            if error.code == "ParameterNotFound":
                return None
            raise
        found = answer["Parameter"]
        lines = found.get("Value", "").splitlines()
        return Stored(tokens=tuple(line.strip() for line in lines if line.strip()), version=found.get("Version", 0))

    def write(self, tokens: tuple[str, ...], *, create: bool) -> int:
        """Write, or create and fail where it exists; returns the version. Raises ParameterUnavailable."""
        with told_as(ParameterUnavailable, f"write the parameter {self.name}"):
            answer = self._clients.ssm().put_parameter(
                Name=self.name,
                Description=DESCRIPTION,
                Value="\n".join(tokens),
                Type="SecureString",
                Overwrite=not create,
            )
        return answer["Version"]
