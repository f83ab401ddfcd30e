"""Secrets that this process has read, kept out of whatever it writes.

A net, not a licence: nothing writes a secret on purpose. But an error's text comes from elsewhere - a proxy that quotes
the header it refused, a library that quotes the value it could not use - and ends in the log.
"""

import base64
import json
import re
import sys
from collections.abc import Iterator
from typing import Final
from urllib.parse import quote

HIDDEN: Final = "***"
SHORTEST: Final = 6
"""Shorter ones cannot be told from ordinary text, and are no secrets either."""
NO_SECRETS: Final = frozenset({"username", "x-scope-orgid", "thanos-tenant"})
"""Fields and headers of a credential, in lower case. A tenant is often called like its cluster."""
_SIGNED: Final = r"""(?i)(x-amz-security-token['"]?\s*[:=]\s*(?:b?['"])?|credential=|signature=)[^\s,'"&]+"""
_SCHEMES: Final = frozenset({"bearer", "basic"})


class Redaction:
    """One a process. Safe to use from several threads."""

    def __init__(self) -> None:
        self._forms: tuple[str, ...] = ()

    def keep(self, parameter: str) -> None:
        """Remember the secrets in a parameter's value: tokens, one a line, or a credential for Prometheus."""
        forms = {form for secret in _secrets_in(parameter) for form in _forms_of(secret)}
        # The longest first: a secret may be part of another.
        self._forms = tuple(sorted({*self._forms, *forms}, key=lambda form: (-len(form), form)))

    def clean(self, text: str) -> str:
        """Return the text without them, in whatever usual form they stand there."""
        for form in self._forms:
            text = text.replace(form, HIDDEN)
        return without_signature(text)


def without_signature(text: str) -> str:
    """Return the text without what an AWS request was signed with.

    AWS' SignatureDoesNotMatch quotes the whole canonical request, and with it the session token among its headers.
    """
    return re.sub(_SIGNED, rf"\1{HIDDEN}", text)


class CleanStdout:
    """Standard output through a Redaction: what the log is written to."""

    def __init__(self, redaction: Redaction) -> None:
        self._redaction = redaction

    def write(self, text: str) -> int:
        """Write what is left of the text."""
        return sys.stdout.write(self._redaction.clean(text))

    def flush(self) -> None:
        """Pass it on."""
        sys.stdout.flush()


def _secrets_in(parameter: str) -> Iterator[str]:
    try:
        given = json.loads(parameter)
    except (ValueError, RecursionError):
        given = None
    if isinstance(given, dict):
        yield parameter.strip()
        yield from _secrets_in_json(given)
        return
    for line in parameter.splitlines():
        yield line.strip()
        scheme, _, rest = line.strip().partition(" ")
        credential = rest.strip() if scheme.lower() in _SCHEMES else line.strip()
        yield credential
        yield credential.partition(":")[2]  # the password of user:password


def _secrets_in_json(given: dict[str, object]) -> Iterator[str]:
    """Every text but names: who asks, and whose data it is, stand in ordinary lines as well."""
    yield f"{given.get('username', '')}:{given.get('password', '')}"
    left: list[object] = [given]
    while left:
        match left.pop():
            case dict() as fields:
                left += [value for name, value in fields.items() if str(name).lower() not in NO_SECRETS]
            case list() as values:
                left += values
            case str() as text:
                yield text


def _forms_of(secret: str) -> Iterator[str]:
    """As it is, and as JSON, Python, addresses and HTTP headers write it."""
    if len(secret) < SHORTEST:
        return
    raw = secret.encode("utf-8", "surrogatepass")
    yield secret
    yield json.dumps(secret)[1:-1]
    yield json.dumps(secret, ensure_ascii=False)[1:-1]
    yield repr(secret)[1:-1]
    yield json.dumps(repr(secret)[1:-1])[1:-1]
    yield quote(raw, safe="")
    yield base64.b64encode(raw).decode()
    yield base64.urlsafe_b64encode(raw).decode()
