"""Headless Chromium with no network at all: a page's picture, and what its scripts made of it."""

import subprocess
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parent.parent
WIDTH: Final = 1200
ARGUMENTS: Final = (
    "--headless=new",
    "--no-sandbox",  # it runs as root in containers
    "--disable-gpu",
    "--hide-scrollbars",
    "--no-first-run",
    "--disable-background-networking",
    "--force-device-scale-factor=1",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--virtual-time-budget=10000",
    "--enable-logging=stderr",
)


class Shown(NamedTuple):
    """What came of a page."""

    dom: str
    """After all scripts have run."""
    log: str
    """What the browser said; the page's console is in it."""


def find_chromium() -> str:
    """Its path. Raises RuntimeError with the sentence that says how to install it."""
    found = subprocess.run([ROOT / "scripts" / "find-program", "chromium"], capture_output=True, text=True, check=False)
    if found.returncode:
        raise RuntimeError(found.stderr.strip())
    return found.stdout.strip()


def show(chromium: str, page: Path, folder: Path, *, picture: Path, height: int) -> Shown:
    """Open the page and take its picture; the profile is made in the folder."""
    command = [chromium, *ARGUMENTS, f"--user-data-dir={folder / 'profile'}", f"--window-size={WIDTH},{height}"]
    done = subprocess.run(
        [*command, f"--screenshot={picture}", "--dump-dom", page.as_uri()],
        capture_output=True,
        text=True,
        check=True,
        timeout=180,
    )
    return Shown(done.stdout, done.stderr)


def print_out(chromium: str, page: Path, folder: Path) -> bytes:
    """The page as a PDF."""
    file = folder / "page.pdf"
    command = [chromium, *ARGUMENTS, f"--user-data-dir={folder / 'printing'}", "--no-pdf-header-footer"]
    subprocess.run([*command, f"--print-to-pdf={file}", page.as_uri()], capture_output=True, check=True, timeout=180)
    return file.read_bytes()
