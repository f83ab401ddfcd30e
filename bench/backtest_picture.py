"""`python -m bench.backtest_picture`: docs/assets/backtest.png anew, a report as headless Chromium shows it."""

import os
import sys
import tempfile
from pathlib import Path
from typing import Final

from PIL import Image

from autoscaler.backtest.page import page
from autoscaler.backtest.run import backtest
from autoscaler.backtest.workloads import WORKLOADS
from autoscaler.policy_text import parse_policy
from autoscaler.presets import preset
from bench.browser import ROOT, find_chromium, show

PICTURE: Final = ROOT / "docs" / "assets" / "backtest.png"
WORKLOAD: Final = "ecommerce-day"
PRESETS: Final = ("default", "thrifty", "swift")
HEIGHT: Final = 1185
COLOURS: Final = 128
"""Are enough for lines and letters, and a third of the bytes."""


def main() -> int:
    """Play, draw, keep."""
    plan = WORKLOADS[WORKLOAD]()
    report = backtest(
        [plan],
        {name: parse_policy(preset(name)) for name in PRESETS},
        source=plan.name,
        notes=(),
        processes=os.cpu_count() or 1,
    )
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        file, picture = folder / "report.html", folder / "report.png"
        file.write_text(page(report), encoding="utf-8")
        shown = show(find_chromium(), file, folder, picture=picture, height=HEIGHT)
        if "CONSOLE" in shown.log:
            print(shown.log, file=sys.stderr)
            return 1
        PICTURE.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(picture) as image:
            image.convert("RGB").quantize(COLOURS).save(PICTURE, optimize=True)
    print(f"{PICTURE.relative_to(ROOT)}: {PICTURE.stat().st_size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
