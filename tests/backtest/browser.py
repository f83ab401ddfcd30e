"""A report opened in headless Chromium."""

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from bench.browser import show
from tests.monitoring.programs import program

HEIGHT = 1180


@dataclass(frozen=True)
class Opened:
    """What came of it."""

    dom: str
    """After all scripts have run."""
    log: str
    picture: Path

    @property
    def console(self) -> list[str]:
        """Everything that the page's console was told: refused requests and errors of scripts are among it."""
        return [line for line in self.log.splitlines() if "CONSOLE" in line]

    @cached_property
    def drawn(self) -> str:
        """What the scripts made, without the scripts themselves."""
        return re.sub(r"<script.*?</script>", "", self.dom, flags=re.DOTALL)

    def count(self, css_class: str) -> int:
        """Elements of this class."""
        found = re.findall(r'class="([^"]*)"', self.drawn)
        return sum(css_class in names.split() for names in found)


def open_page(page: Path, folder: Path) -> Opened:
    picture = folder / "page.png"
    shown = show(program("chromium"), page, folder, picture=picture, height=HEIGHT)
    return Opened(shown.dom, shown.log, picture)
