"""Powertools idempotency: one effect for a webhook that comes twice.

It removes duplicates; it is no lock. Imported by the webhook's handler alone: it brings boto3 with it.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from aws_lambda_powertools.utilities.idempotency import (
    DynamoDBPersistenceLayer,
    IdempotencyConfig,
    idempotent_function,
)
from aws_lambda_powertools.utilities.idempotency.exceptions import (
    IdempotencyAlreadyInProgressError,
    IdempotencyInconsistentStateError,
    IdempotencyPersistenceLayerError,
)

from autoscaler.aws.clock import Context
from autoscaler.aws.failures import in_one_line
from autoscaler.ports import PortError

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

KEPT_S: Final = 5
"""Shorter than any repeat_interval of our routes, or it would swallow the repeats; their `startsAt` stays the same."""


class NotNow(PortError):
    """The same webhook is being handled, or it cannot be known: it may be sent again."""


class Once:
    """Runs a piece of work once for a key within 5 seconds; what raises is forgotten and may be tried again."""

    def __init__(self, client: "DynamoDBClient", *, table: str) -> None:
        self._store = DynamoDBPersistenceLayer(
            table_name=table, key_attr="id", expiry_attr="expires_at", boto3_client=client
        )

    def __call__(self, key: str, context: Context, work: Callable[[], dict[str, Any]]) -> tuple[dict[str, Any], bool]:
        """Return the result of the work, and whether it is the first one's. Raises NotNow, and what the work raises."""
        ran = False

        def run(*, key: str) -> dict[str, Any]:  # noqa: ARG001 - the decorator takes the key by its name
            nonlocal ran
            ran = True
            return work()

        config = IdempotencyConfig(
            expires_after_seconds=KEPT_S, raise_on_no_idempotency_key=True, hash_function="sha256"
        )
        # Without the context a record of a killed function would block its webhook until it expires.
        config.register_lambda_context(context)  # type: ignore[arg-type]  # Context is the part of it that is used
        wrapped = idempotent_function(
            run, data_keyword_argument="key", persistence_store=self._store, config=config, key_prefix="webhook"
        )
        try:
            return wrapped(key=key), not ran
        except (IdempotencyAlreadyInProgressError, IdempotencyInconsistentStateError) as error:
            raise NotNow("the same webhook is being handled right now") from error
        except IdempotencyPersistenceLayerError as error:
            raise NotNow(f"the idempotency table cannot be used: {in_one_line(str(error))}") from error
