"""The demo's screen as an SVG, for the top of the README: `make picture`."""

import io
import re
from pathlib import Path
from typing import Final

from rich.console import Console, RenderableType

COLUMNS: Final = 118
LINES: Final = 46
_FONT_FACE: Final = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)
"""Rich names fonts on somebody's server; a page that shows the picture is to ask nobody."""


def save_picture(path: Path, shown: RenderableType, *, title: str) -> None:
    """Write what a terminal of this size would show."""
    console = Console(record=True, width=COLUMNS, height=LINES, file=io.StringIO(), force_terminal=True)
    console.print(shown)
    svg = console.export_svg(title=title)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_FONT_FACE.sub("", svg), encoding="utf-8")
