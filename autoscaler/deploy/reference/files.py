"""The files that are made of the policy's types, and held equal by a test."""

import json
from typing import Final

from autoscaler.deploy.reference.page import reference_page
from autoscaler.deploy.reference.schema import policy_schema

SCHEMA: Final = "policy.schema.json"
PAGE: Final = "docs/policy/reference.md"


def schema_text() -> str:
    """The schema as its file has it."""
    return json.dumps(policy_schema(), indent=2, ensure_ascii=False) + "\n"


def written() -> dict[str, str]:
    """Text by path from the project's root."""
    return {SCHEMA: schema_text(), PAGE: reference_page()}
