"""Looks for a secret in text, however it may be written there."""

import base64
import binascii
import json
import re
from collections.abc import Iterable
from urllib.parse import quote

_ENCODED = re.compile(r"[A-Za-z0-9+/_-]{8,}")


def leaks(text: str, secrets: Iterable[str]) -> list[str]:
    """Which of the secrets stand in the text: as they are, escaped, or anywhere inside something in base64."""
    decoded = b"\n".join(_decoded(text))
    return [secret for secret in secrets if _stands_in(text, secret) or secret.encode() in decoded]


def _stands_in(text: str, secret: str) -> bool:
    once = json.dumps(secret)[1:-1]
    forms = {secret, once, json.dumps(once)[1:-1], repr(secret)[1:-1], quote(secret, safe="")}
    return any(form in text for form in forms)


def _decoded(text: str) -> Iterable[bytes]:
    for found in _ENCODED.findall(text):
        standard = found.replace("-", "+").replace("_", "/")
        for start in range(4):  # what surrounds it shifts the groups of four
            part = standard[start:]
            part = part[:-1] if len(part) % 4 == 1 else part
            try:
                yield base64.b64decode(part + "=" * (-len(part) % 4), validate=True)
            except binascii.Error:
                continue
