"""The evaluator itself, held against the rules of the IAM user guide."""

from typing import Any

import pytest

from tests.service.iam.evaluator import Answer, NotUnderstood, Request, arn_like, judge

BUCKET = "arn:aws:s3:::shop/orders/1"


def answer(*statements: dict[str, Any], action: str = "s3:GetObject", **context: Any) -> Answer:
    return judge(
        [{"Version": "2012-10-17", "Statement": [{"Effect": "Allow"} | statement for statement in statements]}],
        Request(action, BUCKET, {name.replace("__", ":"): value for name, value in context.items()}),
    )


def on_it(**more: Any) -> dict[str, Any]:
    return {"Action": "s3:GetObject", "Resource": BUCKET} | more


def where(operator: str, value: Any) -> dict[str, Any]:
    return on_it(Condition={operator: {"a:key": value}})


def test_what_no_statement_allows_is_denied_and_a_deny_outweighs_every_allow() -> None:
    assert answer() is Answer.DENIED
    assert answer(on_it()) is Answer.ALLOWED
    assert answer(on_it(Effect="Deny"), on_it()) is Answer.FORBIDDEN
    assert answer(on_it(), on_it(Effect="Deny")) is Answer.FORBIDDEN


@pytest.mark.parametrize(
    ("statement", "allowed"),
    [
        ({"Action": "s3:*", "Resource": "*"}, True),
        ({"Action": "S3:getobject", "Resource": "*"}, True),
        ({"Action": ["s3:PutObject", "s3:GetObjec?"], "Resource": "*"}, True),
        ({"Action": "s3:GetObjectAcl", "Resource": "*"}, False),
        ({"NotAction": "s3:PutObject", "Resource": "*"}, True),
        ({"NotAction": ["s3:Get*"], "Resource": "*"}, False),
        ({"Action": "s3:GetObject", "Resource": "arn:aws:s3:::shop/*"}, True),
        ({"Action": "s3:GetObject", "Resource": ["arn:aws:s3:::Shop/*"]}, False),
        ({"Action": "s3:GetObject", "NotResource": "arn:aws:s3:::shop/*"}, False),
        ({"Action": "s3:GetObject", "NotResource": "arn:aws:s3:::other/*"}, True),
    ],
)
def test_actions_have_no_case_and_resources_have(statement: dict[str, Any], allowed: bool) -> None:
    assert (answer(statement) is Answer.ALLOWED) is allowed


@pytest.mark.parametrize(
    ("pattern", "fits"),
    [
        ("arn:aws:logs:eu-central-1:1:log-group:/a/b:*", True),
        ("arn:aws:logs:eu-central-1:*:log-group:/a/b:log-stream:x", True),
        ("arn:aws:logs:*:log-group:/a/b:log-stream:x", False),  # an asterisk covers no colon but in the last part
        ("arn:aws:logs:eu-central-1:1:log-group:/a/b", False),
    ],
)
def test_the_parts_of_an_arn_are_compared_one_by_one(pattern: str, fits: bool) -> None:
    assert arn_like(pattern, "arn:aws:logs:eu-central-1:1:log-group:/a/b:log-stream:x") is fits


@pytest.mark.parametrize(
    ("operator", "wanted", "found", "allowed"),
    [
        ("StringEquals", "a", "a", True),
        ("StringEquals", ["b", "a"], "a", True),
        ("StringEquals", "a", "A", False),
        ("StringEquals", "a*", "ab", False),
        ("StringEquals", "a", None, False),
        ("StringEqualsIfExists", "a", None, True),
        ("StringEqualsIfExists", "a", "b", False),
        ("StringLike", "a*", "ab", True),
        ("StringLike", "a*", None, False),
        ("ArnEquals", "arn:aws:ec2:*:1:x/*", "arn:aws:ec2:z:1:x/1", True),
        ("ArnLike", "arn:aws:ec2:*:1:x/*", "arn:aws:ec2:z:2:x/1", False),
        ("Bool", "true", "true", True),
        ("Bool", "true", "false", False),
        ("Bool", "true", None, False),
        ("Null", "true", None, True),
        ("Null", "true", "a", False),
        ("Null", "false", "a", True),
        ("ForAllValues:StringEquals", ["a", "b"], ["a", "b"], True),
        ("ForAllValues:StringEquals", ["a", "b"], ["a", "c"], False),
        ("ForAllValues:StringEquals", ["a", "b"], None, True),
        ("ForAllValues:StringLike", ["a*"], ["ab", "ac"], True),
        ("ForAnyValue:StringEquals", ["a", "b"], ["c", "a"], True),
        ("ForAnyValue:StringEquals", ["a", "b"], ["c"], False),
        ("ForAnyValue:StringEquals", ["a", "b"], None, False),
    ],
)
def test_conditions(operator: str, wanted: Any, found: Any, allowed: bool) -> None:
    context = {} if found is None else {"A__Key": found}
    assert (answer(where(operator, wanted), **context) is Answer.ALLOWED) is allowed


def test_every_condition_of_a_statement_must_hold() -> None:
    statement = on_it(Condition={"StringEquals": {"a:key": "1", "a:other": "2"}, "Bool": {"a:flag": "true"}})
    assert answer(statement, a__key="1", a__other="2", a__flag="true") is Answer.ALLOWED
    assert answer(statement, a__key="1", a__other="3", a__flag="true") is Answer.DENIED
    assert answer(statement, a__key="1", a__other="2", a__flag="false") is Answer.DENIED


@pytest.mark.parametrize(
    "statement",
    [
        where("StringNotEquals", "a"),
        where("NumericLessThan", "1"),
        where("ForSomeValues:StringEquals", "a"),
        where("StringEquals", "${aws:username}"),
        on_it(Principal="*"),
        on_it(Effect="Perhaps"),
        on_it(NotAction="s3:PutObject"),
        {"Action": "s3:GetObject"},
        on_it(Resource={"Ref": "Bucket"}),
    ],
)
def test_what_it_does_not_know_it_does_not_judge(statement: dict[str, Any]) -> None:
    with pytest.raises(NotUnderstood):
        answer(statement, a__key="a")
    with pytest.raises(NotUnderstood):
        judge([{"Version": "2008-10-17", "Statement": []}], Request("s3:GetObject", BUCKET))
    with pytest.raises(NotUnderstood):
        answer(where("StringEquals", "a"), a__key=["a", "b"])
    with pytest.raises(NotUnderstood):
        answer(where("StringEquals", "a"), a__key="a", A__KEY="b")
