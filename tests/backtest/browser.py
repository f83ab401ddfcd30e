"""A report opened in headless Chromium, with no network at all."""

import re
import subprocess
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tests.monitoring.programs import program

WIDTH, HEIGHT = 1200, 1180
ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",  # tests run as root
    "--disable-gpu",
    "--hide-scrollbars",
    "--no-first-run",
    "--disable-background-networking",
    "--force-device-scale-factor=1",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--virtual-time-budget=10000",
    "--enable-logging=stderr",
    "--v=0",
)


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


def open_page(page: Path, folder: Path, *, picture: Path | None = None, height: int = HEIGHT) -> Opened:
    picture = picture or folder / "page.png"
    done = subprocess.run(
        [
            program("chromium"), *ARGUMENTS, f"--user-data-dir={folder / 'profile'}", f"--window-size={WIDTH},{height}",
            f"--screenshot={picture}", "--dump-dom", page.as_uri(),
        ],
        capture_output=True, text=True, check=True, timeout=180,
    )  # fmt: skip
    return Opened(dom=done.stdout, log=done.stderr, picture=picture)


def print_page(page: Path, folder: Path) -> bytes:
    """As a PDF."""
    file = folder / "page.pdf"
    subprocess.run(
        [
            program("chromium"), *ARGUMENTS, f"--user-data-dir={folder / 'print-profile'}", "--no-pdf-header-footer",
            f"--print-to-pdf={file}", page.as_uri(),
        ],
        capture_output=True, check=True, timeout=180,
    )  # fmt: skip
    return file.read_bytes()
