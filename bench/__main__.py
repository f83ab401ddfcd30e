"""`make bench`: runs the benches that are named, or all of them; `--list` names them."""

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Final

from bench import alert_latency, backtest_speed, cost, decide_size, evaluate, observe, server_rules, verdicts
from bench.invocation import __main__ as invocation

BENCHES: Final[dict[str, Callable[[Sequence[str]], int]]] = {
    "invocation": invocation.main,
    "evaluate": evaluate.main,
    "alert_latency": alert_latency.main,
    "observe": observe.main,
    "cost": cost.main,
    "server_rules": server_rules.main,
    "verdicts": verdicts.main,
    "decide_size": decide_size.main,
    "backtest_speed": backtest_speed.main,
}


def main() -> int:
    """Run them one after the other; returns the worst exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="bench", help=f"one of {', '.join(BENCHES)}")
    parser.add_argument("--list", action="store_true", help="only name them")
    options = parser.parse_args()
    unknown = sorted(set(options.names) - set(BENCHES))
    if unknown:
        parser.error(f"there is no bench {', '.join(unknown)}: name some of {', '.join(BENCHES)}")
    if options.list:
        print("\n".join(BENCHES))
        return 0
    return max(BENCHES[name]([]) for name in options.names or BENCHES)


if __name__ == "__main__":
    sys.exit(main())
