"""Results that are committed: bench/results/NAME.json, by which `make bench-check` judges a fresh run.

    {"bench": NAME, "ratios": {...}, "exact": {...}, "seconds": {...}, ...}

`ratios` are CPU times, or sizes, over a floor of the same run: they hold on any machine, and less is better. `exact`
are counts, which must not differ at all. `seconds` are this machine's, and compared with nothing.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

FOLDER: Final = Path(__file__).parent / "results"


def path_of(name: str) -> Path:
    """Where a bench's results lie."""
    return FOLDER / f"{name}.json"


def write(name: str, found: Mapping[str, Any]) -> None:
    """Put them in the place of the committed ones."""
    path_of(name).write_text(f"{json.dumps({'bench': name, **found}, indent=1)}\n", encoding="utf-8")
    print(f"written: {path_of(name)}")
