"""Policies by name, for `extends`: each changes the defaults where it wants something else (docs/policy/presets.md)."""

import pkgutil
from typing import Final

NAMES: Final = ("default", "brief", "thrifty", "swift")


def preset(name: str) -> str:
    """The YAML of one of NAMES. Raises FileNotFoundError where the package lacks it."""
    found = pkgutil.get_data(__package__, f"{name}.yml")
    return (found or b"").decode()
