"""`k3s-autoscaler`: see what it does, stop it, let it go on."""

from typing import Annotated

import typer

from autoscaler.cli.backtest.command import backtest
from autoscaler.cli.doctor.command import doctor
from autoscaler.cli.explain.command import explain
from autoscaler.cli.group import Commands
from autoscaler.cli.history.command import history
from autoscaler.cli.mode.command import observe, pause, resume
from autoscaler.cli.next import next_decision
from autoscaler.cli.options import examples
from autoscaler.cli.policy.command import policy
from autoscaler.cli.prices.command import prices
from autoscaler.cli.simulate.command import simulate
from autoscaler.cli.status.command import status
from autoscaler.cli.teardown.command import teardown
from autoscaler.cli.token.command import token
from autoscaler.cli.validate import validate
from autoscaler.cli.verify.command import verify_aws
from autoscaler.cli.version import version

app = typer.Typer(
    cls=Commands,
    help="Scales the EC2 workers of a K3s cluster: see what it does, stop it, let it go on.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(*, wanted: bool) -> None:
    if wanted:
        typer.echo(f"k3s-autoscaler {version()}")
        raise typer.Exit


@app.callback()
def _every(
    *,
    show_version: Annotated[
        bool,
        typer.Option("--version", callback=lambda wanted: _version(wanted=wanted), is_eager=True, help="The version."),
    ] = False,
) -> None:
    del show_version


app.command(
    epilog=examples(
        "status --stage main",
        "status --stage main --json | jq .cost",
        "status --stage main --check || page-somebody",
    )
)(status)
app.command(
    epilog=examples(
        "history --since 02:00 --until 03:00",
        "history --since 7d --worker i-0a1b2c3d4e5f60718",
        "history --since 30d --trigger operator",
    )
)(history)
app.command(
    epilog=examples(
        "explain --stage main",
        "explain shop/web-6d4cf56db6-x2x7q",
        "explain worker-i-0a1b2c3d4e5f60718 --at 02:30",
        "explain --prometheus http://127.0.0.1:9090 --policy new.yml",
    )
)(explain)
app.command("next", epilog=examples("next --stage main"))(next_decision)
app.add_typer(simulate, name="simulate")
app.command(epilog=examples("doctor --stage main", "doctor --stage main --json | jq .counts"))(doctor)
app.command(epilog=examples("pause --stage main", "pause --stage main --for 2h"))(pause)
app.command(epilog=examples("observe --stage main --for 1d"))(observe)
app.command(epilog=examples("resume --stage main"))(resume)
app.add_typer(policy, name="policy")
app.command(epilog=examples("token --stage main --if-missing", "token --stage main --drop-previous"))(token)
app.command(epilog=examples("teardown --stage main --dry-run", "teardown --stage main --at-once 5"))(teardown)
app.command(epilog=examples("validate policy.prod.yml --region eu-north-1", "validate --strict --json"))(validate)
app.command(epilog=examples("verify-aws --account-only --region eu-central-1"))(verify_aws)
app.add_typer(prices, name="prices")
app.command(
    epilog=examples(
        "backtest --workload sawtooth --preset swift --html page.html",
        "backtest --prometheus http://127.0.0.1:9090 --record last.gz",
        "backtest --recorded last.gz --policy a.yml --policy b.yml",
    )
)(backtest)


def main() -> None:
    """Run the command line."""
    app(prog_name="k3s-autoscaler")


if __name__ == "__main__":
    main()
