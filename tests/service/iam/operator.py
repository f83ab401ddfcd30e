"""What people's commands call at AWS, with their own credentials, and the types of resource that each call touches.

`COMMANDS` is the table of docs/deploy.md; `test_operator.py` holds it against code, reference and document.
"""

# command -> action -> the reference's types of resource that are touched; none = AWS takes "*" only.
COMMANDS: dict[str, dict[str, tuple[str, ...]]] = {
    "`status`, `history`, `pause`, `observe`, `resume`": {
        "dynamodb:GetItem": ("table",),
        "dynamodb:PutItem": ("table",),
        "dynamodb:Query": ("table",),
        "logs:FilterLogEvents": ("log-group",),
    },
    "`policy`": {
        "dynamodb:GetItem": ("table",),
        "dynamodb:PutItem": ("table",),
        "ssm:GetParameter": ("parameter",),
        "ssm:GetParameterHistory": ("parameter",),
        "ssm:PutParameter": ("parameter",),
    },
    "`token`": {"ssm:GetParameter": ("parameter",), "ssm:PutParameter": ("parameter",)},
    "`teardown`": {
        "dynamodb:GetItem": ("table",),
        "dynamodb:PutItem": ("table",),
        "ec2:DescribeInstances": (),
        "ec2:TerminateInstances": ("instance",),
        "ssm:GetCommandInvocation": (),
        "ssm:SendCommand": ("document", "instance"),
    },
    "`make up`, beside what the framework deploys with": {
        "cloudformation:DescribeStackResources": ("stack",),
        "cloudformation:DescribeStacks": ("stack",),
        "cloudformation:GetTemplate": ("stack",),
        "dynamodb:UpdateTable": ("table",),
        "ssm:GetParameter": ("parameter",),
        "ssm:GetParameters": ("parameter",),
        "ssm:PutParameter": ("parameter",),
    },
    "`make down`, beside what the framework removes with and `teardown`": {
        "cloudformation:DescribeStacks": ("stack",),
        "dynamodb:ListTables": (),
        "ec2:DescribeInstances": (),
        "ec2:DescribeSnapshots": (),
        "ssm:GetParameter": ("parameter",),
        "ssm:GetParametersByPath": ("parameter",),
    },
    "`verify-aws`": {
        "apigateway:GET": ("Apis",),
        "cloudformation:DescribeStacks": ("stack",),
        "cloudformation:ListStackResources": ("stack",),
        "ec2:CreateFleet": ("fleet", "instance", "launch-template"),
        "ec2:CreateLaunchTemplate": ("launch-template",),
        "ec2:DescribeImages": (),
        "ec2:DescribeInstanceTypeOfferings": (),
        "ec2:DescribeInstanceTypes": (),
        "ec2:DescribeInstances": (),
        "ec2:DescribeRouteTables": (),
        "ec2:DescribeSubnets": (),
        "ec2:DescribeVpcEndpoints": (),
        "ec2:DescribeVpcs": (),
        "ec2:GetEbsDefaultKmsKeyId": (),
        "ec2:RunInstances": ("image", "instance", "network-interface", "security-group", "subnet", "volume"),
        "events:TestEventPattern": (),
        "iam:GetInstanceProfile": ("instance-profile",),
        "iam:GetRole": ("role",),
        "iam:SimulatePrincipalPolicy": ("role", "user"),
        "kms:DescribeKey": ("key",),
        "kms:GetKeyPolicy": ("key",),
        "lambda:GetAccountSettings": (),
        "servicequotas:GetServiceQuota": ("quota",),
        "ssm:DescribeInstanceInformation": (),
        "ssm:GetParameter": ("parameter",),
        "sts:GetCallerIdentity": (),
    },
    "`doctor`": {
        "apigateway:GET": ("Apis",),
        "cloudformation:DescribeStackResource": ("stack",),
        "cloudformation:DescribeStacks": ("stack",),
        "cloudformation:ListStackResources": ("stack",),
        "cloudwatch:DescribeAlarms": ("alarm",),
        "cloudwatch:GetMetricStatistics": (),
        "ec2:DescribeImages": (),
        "ec2:DescribeInstanceTypeOfferings": (),
        "ec2:DescribeInstanceTypes": (),
        "ec2:DescribeInstances": (),
        "ec2:DescribeLaunchTemplateVersions": (),
        "ec2:DescribeRouteTables": (),
        "ec2:DescribeSubnets": (),
        "ec2:DescribeVpcEndpoints": (),
        "ec2:DescribeVpcs": (),
        "events:DescribeRule": ("rule-on-default-event-bus",),
        "iam:GetInstanceProfile": ("instance-profile",),
        "iam:GetRole": ("role",),
        "iam:SimulatePrincipalPolicy": ("role", "user"),
        "lambda:GetAccountSettings": (),
        "lambda:GetFunctionConfiguration": ("function",),
        "lambda:InvokeFunction": ("function",),
        "servicequotas:GetServiceQuota": ("quota",),
        "ssm:DescribeInstanceInformation": (),
        "ssm:GetParameter": ("parameter",),
        "sts:GetCallerIdentity": (),
    },
    "`prices refresh`": {
        "ec2:DescribeInstanceTypes": (),
        "ec2:DescribeSpotPriceHistory": (),
        "pricing:GetProducts": (),
    },
}


def table() -> str:
    """The rows for docs/deploy.md."""
    return "\n".join(
        f"| {command} | "
        + ", ".join(f"`{name}` ({', '.join(kinds) or '*'})" for name, kinds in sorted(actions.items()))
        + " |"
        for command, actions in COMMANDS.items()
    )
