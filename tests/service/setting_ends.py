"""The ends of every parameter of both services: what must be carried, and the first beyond each end, which is refused.

`carried` holds one value for each packaging of test_setting_extremes.py, in turn: the shortest, the longest, and one
whose characters a shell, sed, YAML, JSON or CloudFormation could take for their own, as far as the rules let them pass.
The values of one packaging fit each other.
"""

import hashlib
from dataclasses import dataclass
from typing import Final

from autoscaler.deploy.versions import IMAGES
from tests.service.sandbox import BINARY

ACCOUNT: Final = "111122223333"
REGION: Final = "eu-central-1"
AS_MUCH_AS_FITS: Final = "(as much as user data has room for)"
"""Filled in by the test: the end depends on what else stands in the user data."""

LABEL: Final = "l" * 63
HOST: Final = f"{LABEL}.{LABEL}.{LABEL}.{'h' * 61}"
"""253 characters, the longest that DNS knows (RFC 1035)."""
BINARY_SHA256: Final = hashlib.sha256(BINARY.encode()).hexdigest()


@dataclass(frozen=True)
class Ends:
    """Of one parameter."""

    carried: tuple[str, ...]
    refused: tuple[str, ...]


def of_ids(prefix: str, most: int, *, optional: bool) -> Ends:
    """Lists of EC2's ids, whose digits were eight once and are seventeen now."""
    longest = [f"{prefix}-{n:017x}" for n in range(most + 1)]
    shortest = f"{prefix}-00000000"
    return Ends(
        ("" if optional else shortest, ",".join(longest[:most]), f"{shortest},{longest[0]},{prefix}-deadbeef"),
        (
            ",".join(longest),
            f"{shortest},{shortest}",
            f"{shortest},{longest[0]},{shortest}",
            f"{shortest},",
            f"{shortest}, {longest[0]}",
            *([] if optional else [""]),
        ),
    )


def parameter_name(*, optional: bool) -> Ends:
    """Of SSM: 15 levels, and as long as Lambda's environment has room for twice."""
    deepest = "/a" * 14
    longest = deepest + "/" + "z" * (512 - len(deepest) - 1)
    return Ends(
        ("" if optional else "/a", longest, "/K3s_9.-/..-_"),
        (longest + "z", deepest + "/a/a", "a", "/", "/a/", "/a b", "/a$b", *([] if optional else [""])),
    )


def topic(*, last: bool) -> Ends:
    """`last`: of the third packaging, because it excludes what the second is made with."""
    arn = f"arn:aws:sns:{REGION}:{ACCOUNT}:"
    longest = arn + "t" * 256
    return Ends(
        ("", "", longest) if last else ("", longest, arn + "-_"),
        (longest + "t", arn, f"{arn}t.fifo", f"arn:aws:sns:{REGION}:{ACCOUNT}0:t", "t"),
    )


def volume_key() -> Ends:
    """By its own ARN; of one region or of several."""
    arn, key = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/", "0a0a0a0a-0a0a-0a0a-0a0a-0a0a0a0a0a0a"
    return Ends(
        ("", arn + key, f"{arn}mrk-{'f' * 32}"),
        (
            key,
            f"{arn}{key}0",
            arn,
            f"arn:aws:kms:{REGION}:{ACCOUNT}:alias/mine",
            f"{arn}mrk-{'f' * 31}",
            arn + key.upper(),
        ),
    )


def arguments(*must: str) -> Ends:
    """Of K3s. `must`: what other values of the second packaging ask for."""
    odd = "--node-label=a.b/c=%i%%h --x -- - @ + ,:=/ %n --kubelet-arg=v=5,x:y"
    return Ends(
        ("", " ".join((*must, AS_MUCH_AS_FITS)), odd),
        ("a  b", " a", "a ", "a\tb", "a'b", 'a"b', "a\\b", "$a", "a;b", "a<b", "a{b}", "a`b", "a*b", "a#b", "a&b"),
    )


FLAG: Final = Ends(("false", "true", "false"), ("", "True", "yes", "0"))
PRESENT: Final = Ends(("false", "true", "true"), FLAG.refused)
CLUSTER_ID: Final = Ends(("0", "a" + "-" * 30 + "9", "1e3"), ("", "a" * 33, "-a", "a-", "A", "a_b", "a.b"))
POLICY_FILE: Final = Ends(
    ("policy.yml", f"policy{'.prod' * 4}.yml", "policy.yml"),
    ("", "policy", "policy.yaml", "prod.yml", "../policy.yml", "a/policy.yml", f"policy{'x' * 21}.yml", "policy b.yml"),
)
"""The third packaging takes the files of the project as they are."""
IMAGE_ID: Final = Ends(("", "", "ami-" + "f" * 17), ("ami-0000000", "ami-" + "f" * 18, "AMI-00000000"))
DEVICE: Final = Ends(("/dev/a", "/dev/" + "z" * 27, "/dev/0"), ("/dev/" + "z" * 28, "/dev/", "xvda", "/dev/a-b", ""))
VOLUME_GB: Final = Ends(("8", "16384", "9999"), ("7", "16385", "08", "1e3", "20.5", ""))
RELEASES: Final = Ends(
    ("", (f"https://{HOST}:65535/" + "r" * 1024)[:1024], "https://a-9.B:1/~._-/.."),
    (
        (f"https://{HOST}/" + "r" * 1025)[:1025],
        f"https://{'l' * 64}.example",
        f"https://{HOST}h",
        "https://a:65536",
        "https://a:0",
        "https://a..b",
        "https://-a",
        "https://a/",
        "https://a/$b",
        "http://a",
    ),
)

SERVICE: Final[dict[str, Ends]] = {
    "clusterId": CLUSTER_ID,
    "policyFile": POLICY_FILE,
    "prometheusUrl": Ends(
        ("http://a", (f"https://{HOST}:65535/" + "p" * 1024)[:1024], "http://[fd00::1]:1/~._-/1:2//"),
        (
            "",
            (f"https://{HOST}/" + "p" * 1025)[:1025],
            f"http://{'l' * 64}",
            f"http://{HOST}h",
            "http://a..b",
            "http://-a",
            "http://a:65536",
            "http://a:0",
            "http://[::::]",
            "http://[fd00::1::2]",
            "http://a/api/v1",
            "http://a/x/api/v1/query//",
            "http://a/?b",
            "http://a/b c",
            "http://u@a",
        ),
    ),
    "workerSubnetIds": of_ids("subnet", 12, optional=False),
    "workerSecurityGroupIds": of_ids("sg", 16, optional=False),
    "functionSubnetIds": of_ids("subnet", 16, optional=True),
    "functionSecurityGroupIds": of_ids("sg", 5, optional=True),
    "functionDualStack": FLAG,
    "prometheusAuthParameter": parameter_name(optional=True),
    "prometheusCaParameter": parameter_name(optional=True),
    "workerImageParameter": parameter_name(optional=False),
    "workerImageId": IMAGE_ID,
    "workerRootDevice": DEVICE,
    "workerVolumeGb": VOLUME_GB,
    "workerVolumeKeyArn": volume_key(),
    "workerSessionManager": FLAG,
    "k3sAgentArguments": arguments(),
    "k3sRegistriesParameter": parameter_name(optional=True),
    "k3sReleasesUrl": RELEASES,
    "startMode": Ends(("observe", "active", "observe"), ("", "paused", "Active")),
    "sweepRate": Ends(
        ("rate(1 minute)", "rate(1 hour)", "rate(59 minutes)"),
        ("", "rate(0 minutes)", "rate(1 minutes)", "rate(60 minutes)", "rate(2 hours)", "cron(* * * * ? *)"),
    ),
    "logRetentionDays": Ends(("1", "3653", "545"), ("", "0", "2", "3654", "1.0")),
    "notifyTopicArn": topic(last=False),
    "slackWebhookParameter": parameter_name(optional=True),
    "slackGroupS": Ends(("1", "300", "60"), ("", "0", "301", "1.5")),
    # The first packaging has nobody to tell.
    "digestSchedule": Ends(
        ("", "cron(59 23 ? JAN,MAR MON#2 2026-2199)", "cron(0 6 * * ? *)"),
        ("rate(1 day)", "cron(0 6 * *)", "06:00", "cron(0 6 * * ? *);"),
    ),
    "alarms": Ends(("false", "true", "true"), FLAG.refused),
    "alarmTopicArn": topic(last=True),
    "alarmTopicKey": FLAG,
    "alarmEmail": Ends(
        ("", f"{'o' * 64}@{HOST}", ""),
        (f"{'o' * 65}@a.example", f"o@{HOST}h", "o@a", "@a.example", "o@a..example", "a b@a.example", "o@a.b,p@a.b"),
    ),
    "dashboard": FLAG,
    "reservedConcurrency": Ends(("", "9999", "1"), ("0", "10000", "01", "-1")),
    "keepTables": FLAG,
}

CLUSTER: Final[dict[str, Ends]] = {
    "clusterId": CLUSTER_ID,
    "policyFile": POLICY_FILE,
    "vpcNetwork": Ends(
        ("10.0", "192.168", "10.20"), ("", "10", "10.42", "10.43", "10.256", "10.00", "172.15", "172.32", "192.169")
    ),
    "zones": Ends(
        ("", "eu-central-1a,eu-central-1z", "eu-central-1z,eu-central-1a"),
        ("eu-central-1a", "eu-central-1a,eu-central-1b,eu-central-1c", "a,b", "eu-central-1a, eu-central-1b"),
    ),
    "functionEgress": Ends(("existing", "ipv6", "existing"), ("", "IPv6", "nat")),
    "publicIngressCidr": Ends(
        ("", "255.255.255.255/32", "0.0.0.0/0"), ("10.0.0.0", "0.0.0.0/33", "256.0.0.0/8", "1.2.3/24", "01.2.3.4/8")
    ),
    "publicIngressIpv6Cidr": Ends(
        ("", ":".join(["ffff"] * 8) + "/128", "::/0"),
        ("::", "::/129", ":::/0", "1::2::3/64", ":".join(["ffff"] * 9) + "/64", "12345::/16", "0.0.0.0/0"),
    ),
    "apiIngressCidr": Ends(
        ("", "255.255.255.255/32", "10.0.0.0/16"), ("10.0.0.0/15", "0.0.0.0/0", "10.0.0.0/33", "::/0")
    ),
    "flannelBackend": Ends(("vxlan", "wireguard-native", "vxlan"), ("", "none", "wireguard")),
    "k3sVersion": Ends(
        ("v1.0.0+k3s0", "v1.999.999+k3s99", "v1.33.5+k3s1"),
        ("", "v1.1000.0+k3s1", "v1.0.0+k3s100", "v2.0.0+k3s1", "v1.33.5", "1.33.5+k3s1", "stable"),
    ),
    "k3sSha256Amd64": Ends(("", BINARY_SHA256, BINARY_SHA256), ("a" * 63, "a" * 65, "A" * 64)),
    "k3sSha256Arm64": Ends(("", BINARY_SHA256, ""), ("a" * 63, "a" * 65, "g" * 64)),
    "k3sServerArguments": arguments("--flannel-backend=wireguard-native"),
    "k3sRegistriesParameter": parameter_name(optional=True),
    "k3sReleasesUrl": RELEASES,
    "imageDigests": Ends(
        ("", ",".join(f"{image}=sha256:{'f' * 64}" for image in IMAGES), f"{next(iter(IMAGES))}=sha256:{'0' * 64}"),
        (
            f"prometheus=sha256:{'f' * 63}",
            f"prometheus=sha256:{'f' * 64},prometheus=sha256:{'0' * 64}",
            f"prometheus=sha256:{'f' * 64},",
            "prometheus",
        ),
    ),
    "architecture": Ends(("x86_64", "arm64", "x86_64"), ("", "amd64", "x86")),
    "serverInstanceType": Ends(
        ("a.nano", "x8g.metal-" + "4" * 30, "u7in-32tb.224xlarge"),
        ("", "x8g.metal-" + "4" * 31, "a", "a.", "T3.medium", "t3.medium2", "t3.medium.large"),
    ),
    "serverImageParameter": parameter_name(optional=False),
    "serverImageId": IMAGE_ID,
    "serverRootDevice": DEVICE,
    "serverVolumeGb": VOLUME_GB,
    "serverDataVolumeGb": VOLUME_GB,
    "serverPresent": PRESENT,
}
