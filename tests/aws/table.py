"""The two tables, as cloudformation/state.yml makes them."""

from autoscaler.aws.clients import Clients

STATE = "state-table"
IDEMPOTENCY = "idempotency-table"


def create_tables(clients: Clients) -> None:
    clients.dynamodb().create_table(
        TableName=STATE,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[
            {"AttributeName": "cluster_id", "AttributeType": "S"},
            {"AttributeName": "record", "AttributeType": "S"},
        ],
        KeySchema=[
            {"AttributeName": "cluster_id", "KeyType": "HASH"},
            {"AttributeName": "record", "KeyType": "RANGE"},
        ],
    )
    clients.dynamodb().create_table(
        TableName=IDEMPOTENCY,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
    )
