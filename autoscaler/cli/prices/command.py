"""`k3s-autoscaler prices refresh`: the table of prices anew for one region, from AWS itself."""

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

import botocore.session
import msgspec
import typer
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from autoscaler.aws.clients import believe_aws_alone
from autoscaler.aws.failures import in_one_line
from autoscaler.cli.ending import FAILED, WRONG_INPUT, end
from autoscaler.cli.options import REGION_VARIABLES, examples
from autoscaler.cli.prices.asked import on_demand, spot, types_of
from autoscaler.decide.capacity.prices import PriceTable, price_table
from autoscaler.deploy import catalogue
from autoscaler.deploy.catalogue import NoList, merged, order, write
from autoscaler.instance_types import InstanceType, Sizes
from autoscaler.model import ON_DEMAND, SPOT

prices = typer.Typer(help="What EC2's instance types cost.", no_args_is_help=True)


class SdkAccount:
    """The caller's own credentials."""

    def __init__(self) -> None:
        self._session = botocore.session.get_session()

    def client(self, service: str, region: str) -> Any:
        """An SDK client of the region."""
        client = self._session.create_client(service, region_name=region)
        believe_aws_alone(client)
        return client


@prices.callback()
def _several() -> None:
    """`refresh` is a word of its own, also while it is the only one."""


@prices.command(epilog=examples("prices refresh --region eu-central-1"))
def refresh(
    *,
    region: Annotated[
        str, typer.Option("--region", envvar=REGION_VARIABLES, help="The region whose prices are asked.")
    ] = "",
) -> None:
    """Ask AWS for the prices of a region, and write them into the table of this clone.

    On-demand prices and the present Spot prices of the instance types that it has, and what these types hold. It holds
    from the next deployment.
    """
    if not region:
        end("Give --region (or AWS_REGION): prices are a region's.", WRONG_INPUT)
    account = SdkAccount()
    now = datetime.fromtimestamp(time.time(), UTC)
    on = now.date().isoformat()
    try:
        offered = types_of(account, region)
        fresh: PriceTable = {
            region: {
                ON_DEMAND: on_demand(account, region, on),
                SPOT: spot(account, region, on, sorted(offered, key=order), now=now),
            }
        }
    except NoList as error:
        end(f"Nothing is written: {error}.", FAILED)
    except (ClientError, BotoCoreError, ResponseParserError) as error:
        end(f"Nothing is written: AWS was asked for prices of {region}: {in_one_line(str(error))}.", FAILED)
    try:
        write(catalogue.PRICES, merged(price_table(), fresh))
        news = _into_catalogue(offered, f"DescribeInstanceTypes of {region} on {on}")
    except OSError as error:
        end(f"{error.filename} could not be written: {error.strerror}. Run this in a clone of yours.", FAILED)
    for market, listed in fresh[region].items():
        lacks = sorted(set(offered) - set(listed.usd_per_hour), key=order)
        without = f"; none for {', '.join(lacks)}" if lacks else ""
        typer.echo(f"{region} {market}: {len(listed.usd_per_hour)} prices of {on}{without}.")
    if news:
        typer.echo(f"{catalogue.SIZES.name} lacked these types, or had them otherwise: {', '.join(news)}.")
    typer.echo(f"Written to {catalogue.PRICES.name}; `sls deploy` takes it along.")


def _into_catalogue(offered: Mapping[str, InstanceType], source: str) -> list[str]:
    """Write what the region's types hold over what is known; returns the types of which that is news."""
    before = msgspec.json.decode(catalogue.SIZES.read_bytes(), type=Sizes)
    news = [name for name, has in offered.items() if before.types.get(name) != has]
    if news:
        known = {**before.types, **offered}
        kept = {name: known[name] for name in sorted(known, key=order)}
        write(catalogue.SIZES, Sizes(source=f"{source}; others: {before.source}", types=kept))
    return news
