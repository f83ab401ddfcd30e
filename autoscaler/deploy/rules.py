"""Renders Prometheus' rules and scrapes, Alertmanager's routes and the manifests that carry them: `make rules`.

`monitoring/templates/` holds the files with `@{name}` where a number of the policy or a setting of the installation
belongs; the rendered files of the committed policy are committed too, and a test holds them equal.
"""

import hashlib
import json
import re
import sys
import tempfile
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn
from urllib.parse import urlsplit

import msgspec
import typer
import yaml

from autoscaler.deploy.expressions import rule_expressions
from autoscaler.deploy.versions import IMAGES, VersionsError, read_versions
from autoscaler.observe.series import KUBE_STATE_METRICS, NODE_EXPORTER, PROOF_VOLUME, UTILISATION_GROUP
from autoscaler.policy import Policy
from autoscaler.policy_files import load_policy
from autoscaler.policy_text import PolicyError

ROOT: Final = Path(__file__).resolve().parents[2]
TEMPLATES: Final = ROOT / "monitoring" / "templates"
RULES: Final = ("rules/cluster.yml", "rules/utilisation.yml")
"""What depends on nothing but the policy; addresses and the cluster's name stand in other files."""
PATHS: Final = (*RULES, "prometheus.yml", "alertmanager.yml")
MANIFESTS: Final = (
    "manifests/autoscaler-0-namespace.yaml",  # applied first: K3s takes the files by name
    "manifests/autoscaler-alertmanager.yaml",
    "manifests/autoscaler-kube-state-metrics.yaml",
    "manifests/autoscaler-node-exporter.yaml",
    "manifests/autoscaler-prometheus.yaml",
    "manifests/autoscaler-proof-volume.yaml",
)
_PLACE: Final = re.compile(r"(?m)(?:^(?P<lead> +))?@\{(?P<name>[a-z_]+)\}")
"""`@{name}` only: `$` belongs to PromQL and to Go's templates."""

Discovery = Mapping[str, Any]
"""A service-discovery block as Prometheus' configuration writes it: `{"static_configs": [{"targets": [...]}]}`."""


class RenderError(ValueError):
    """A setting cannot be rendered; the message says which, what is allowed, and what to do."""


def _headless(service: str, port: int, refresh_s: int) -> Discovery:
    name = f"{service}.monitoring.svc.cluster.local"
    return {"dns_sd_configs": [{"names": [name], "type": "A", "port": port, "refresh_interval": f"{refresh_s}s"}]}


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What belongs to the installation and not to the policy."""

    cluster_id: str = "k3s-main"
    """The label `cluster` on every alert; the service's CLUSTER_ID."""
    webhook_url: str = "https://example.execute-api.eu-central-1.amazonaws.com/alerts"
    """Where Alertmanager posts: the deployed service's address; the default is an example that reaches nobody."""
    webhook_url_file: str = ""
    """Where Alertmanager reads that address at each notification; it then takes the place of `webhook_url`.

    Alertmanager knows it from 0.26 on ("url_file" of webhook_config in its configuration's documentation).
    """
    credentials_file: str = "/etc/alertmanager/webhook-token"
    """Where Alertmanager reads the bearer token."""
    local: bool = False
    """The rules are for a Prometheus that holds one cluster and has the policy's `metrics.matchers` as external labels.

    Its own rules never see those: neither selectors nor what is recorded may name them. Who reads them, after remote
    write or behind Thanos, sees them on every series. Otherwise the scrapes add them to every target.
    """
    kube_state_metrics: Discovery = msgspec.field(default_factory=lambda: _headless("kube-state-metrics", 8080, 5))
    kube_state_metrics_telemetry: Discovery = msgspec.field(
        default_factory=lambda: _headless("kube-state-metrics", 8081, 15)
    )
    node_exporter: Discovery = msgspec.field(default_factory=lambda: _headless("node-exporter", 9100, 15))
    prometheus: Discovery = msgspec.field(default_factory=lambda: {"static_configs": [{"targets": ["localhost:9090"]}]})
    alertmanager: Discovery = msgspec.field(default_factory=lambda: _headless("alertmanager", 9093, 15))

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", self.cluster_id):
            raise RenderError(
                f"The cluster id {self.cluster_id!r} cannot be a label: give letters, digits, '.', '_' and '-', "
                "as in the service's CLUSTER_ID."
            )
        if not _is_web_address(self.webhook_url):
            raise RenderError(
                f"The webhook address {self.webhook_url!r} is no web address: give the one that the deployment "
                "printed, https://.../alerts."
            )
        if not self.webhook_url_file.isprintable():
            raise RenderError(
                f"The address file {self.webhook_url_file!r} is no path: name the file that holds the webhook's URL."
            )
        if not self.credentials_file.isprintable() or not self.credentials_file.strip():
            raise RenderError(
                f"The credentials file {self.credentials_file!r} is no path: name the file that holds the bearer token."
            )
        for job in (
            "kube_state_metrics",
            "kube_state_metrics_telemetry",
            "node_exporter",
            "prometheus",
            "alertmanager",
        ):
            block = getattr(self, job)
            if not block or not all(str(key).endswith("_configs") for key in block):
                raise RenderError(
                    f"The discovery of {job} is {dict(block)!r}: give at least one of Prometheus' *_configs blocks, "
                    "such as dns_sd_configs or static_configs."
                )


class _Dumper(yaml.SafeDumper):
    """Indents lists below their key, as the rest of the files does."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002 - PyYAML's signature
        super().increase_indent(flow, indentless=False)


def render(policy: Policy, settings: Settings) -> dict[str, str]:
    """Return the text of every file, by its path below `monitoring/`. Reads the templates; writes nothing."""
    values = _values(policy, settings)
    values["rendered"] = _mark(values)
    return {path: _fill(path, values) for path in PATHS}


def rules_mark(policy: Policy, settings: Settings) -> str:
    """Twelve hex digits that name what the rules of a policy say, whatever their comments.

    They record it themselves (`rendered`), so that whoever reads the series knows which rules made them.
    """
    return _mark(_values(policy, settings))


def _mark(values: Mapping[str, str]) -> str:
    return _mark_of(*(_fill(path, {**values, "rendered": ""}) for path in RULES))


@lru_cache(maxsize=16)
def _mark_of(*texts: str) -> str:
    """Of files that are filled. Remembered: reading this much YAML takes longer than all else that a mark needs."""
    said = [yaml.safe_load(text) for text in texts]
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:12]


def _values(policy: Policy, settings: Settings) -> dict[str, str]:
    """What stands in the places of the templates."""
    matchers = policy.metrics.matchers
    named = {} if settings.local else matchers
    # An alert's own label comes before an external one of that name.
    outside = {"cluster": settings.cluster_id, **(matchers if settings.local else {})}
    return {
        **_policy_values(policy),
        **_settings_values(settings),
        **_label_values(named),
        **{f"promql_{name}": text for name, text in rule_expressions(policy.metrics, named).items()},
        "external_labels": "\n".join(_labels(outside)),
        "alert_cluster": json.dumps(matchers.get("cluster", settings.cluster_id)),
    }


def render_manifests(policy: Policy, cluster_id: str, digests: Mapping[str, str]) -> dict[str, str]:
    """Return the text of every in-cluster manifest, by its path below `monitoring/`. Writes nothing.

    They hold the very texts that `render` gives. `digests` pins images (of IMAGES) by content, `sha256:` and 64 hex
    digits each; what is not named is pulled by its version alone. Raises RenderError.
    """
    for image, digest in digests.items():
        if image not in IMAGES or not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
            raise RenderError(
                f"The image digest {image}={digest} cannot be used: name one of {', '.join(IMAGES)} and give sha256: "
                "followed by 64 hexadecimal digits, as the image's registry shows it for the version's whole index."
            )
    files = render(policy, _in_cluster(cluster_id))
    try:
        versions = read_versions()
    except VersionsError as error:
        raise RenderError(str(error)) from error
    values = {
        f"{image.replace('-', '_')}_version": versions[image] + (f"@{digests[image]}" if image in digests else "")
        for image in IMAGES
    }
    values["proof_volume"] = PROOF_VOLUME
    values |= {f"{Path(path).stem}_yml": _indented(text) for path, text in files.items()}
    values["alertmanager_checksum"] = hashlib.sha256(files["alertmanager.yml"].encode()).hexdigest()
    return {path: _fill(path, values) for path in MANIFESTS}


def write(files: Mapping[str, str], folder: Path) -> None:
    """Put the files below the folder, each replaced as a whole: a Prometheus that reloads never reads half a file."""
    for path, text in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=target.parent, prefix=f".{target.name}.", delete=False
        ) as file:
            file.write(text)
        Path(file.name).chmod(0o644)
        Path(file.name).replace(target)


def _policy_values(policy: Policy) -> dict[str, str]:
    metrics, up, down = policy.metrics, policy.scale_up, policy.scale_down
    return {
        "ksm": KUBE_STATE_METRICS,
        "node_exporter": NODE_EXPORTER,
        "cluster_interval": f"{metrics.cluster_interval_s}s",
        "cluster_timeout": f"{min(10, metrics.cluster_interval_s)}s",
        "utilisation_interval": f"{metrics.utilisation_interval_s}s",
        "utilisation_timeout": f"{min(10, metrics.utilisation_interval_s)}s",
        "utilisation_interval_s": str(metrics.utilisation_interval_s),
        "utilisation_group": UTILISATION_GROUP,
        "pending_for": f"{up.pending_for_s}s",
        "high_for": f"{up.window_s}s",
        "low_for": f"{down.window_s}s",
        "not_ready_for": f"{policy.repair.not_ready_s}s",
        "cpu_above": repr(up.cpu_above),
        "cpu_above_percent": _percent(up.cpu_above),
        "memory_above": repr(up.memory_above),
        "memory_above_percent": _percent(up.memory_above),
        "cpu_below": repr(down.cpu_below),
        "cpu_below_percent": _percent(down.cpu_below),
        "memory_below": repr(down.memory_below),
        "memory_below_percent": _percent(down.memory_below),
    }


def _in_cluster(cluster_id: str) -> Settings:
    """The paths at which the manifests mount the Secret that the server's sync script keeps."""
    return Settings(
        cluster_id=cluster_id,
        webhook_url_file="/etc/alertmanager-webhook/url",
        credentials_file="/etc/alertmanager-webhook/token",
    )


def _fill(path: str, values: Mapping[str, str]) -> str:
    """Fill the template. The further lines of a value are indented as the place is that begins its line."""

    def filled(place: re.Match[str]) -> str:
        lead = place["lead"] or ""
        return lead + values[place["name"]].replace("\n", f"\n{lead}")

    return _PLACE.sub(filled, (TEMPLATES / f"{path}.in").read_text(encoding="utf-8"))


def _label_values(matchers: Mapping[str, str]) -> dict[str, str]:
    """What the policy's matchers add below a rule, to its labels, and to a scrape's targets; nothing without any.

    Each begins with a line break, to stand behind the line before.
    """
    more = "".join(f"\n{' ' * 10}{line}" for line in _labels(matchers))
    targets = "".join(
        f"\n      - {{ target_label: {label}, replacement: {json.dumps(value)} }}"
        for label, value in sorted(matchers.items())
    )
    return {
        "more_labels": more,
        "labels": f"\n        labels:{more}" if more else "",
        "target_labels": f"\n    relabel_configs:{targets}" if targets else "",
    }


def _labels(labels: Mapping[str, str]) -> list[str]:
    return [f"{label}: {json.dumps(value)}" for label, value in sorted(labels.items())]


def _indented(text: str) -> str:
    """The text as the content of a YAML block scalar below a ConfigMap's key; empty lines stay empty."""
    return "".join(f"    {line}" if line.strip() else line for line in text.splitlines(keepends=True)).rstrip("\n")


def _settings_values(settings: Settings) -> dict[str, str]:
    address = ("url_file", settings.webhook_url_file) if settings.webhook_url_file else ("url", settings.webhook_url)
    return {
        "webhook_address": f"{address[0]}: {json.dumps(address[1])}",
        "credentials_file": json.dumps(settings.credentials_file),
        "discover_ksm": _block(settings.kube_state_metrics),
        "discover_ksm_telemetry": _block(settings.kube_state_metrics_telemetry),
        "discover_node_exporter": _block(settings.node_exporter),
        "discover_prometheus": _block(settings.prometheus),
        "discover_alertmanager": _block(settings.alertmanager, first="    - "),
    }


def _block(discovery: Discovery, first: str = "    ") -> str:
    """The block as YAML, four deep; `first` makes it an item of a list."""
    text = yaml.dump(dict(discovery), Dumper=_Dumper, sort_keys=False, default_flow_style=None, width=100)
    lines = [" " * len(first) + line for line in text.splitlines()]
    lines[0] = first + lines[0].lstrip()
    return "\n".join(lines)


def _percent(ratio: float) -> str:
    return f"{ratio * 100:g} %"


def _is_web_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        has_host = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and has_host and text.isprintable() and " " not in text


_EXAMPLE: Final = Settings()


def main(
    *,
    policy: Annotated[Path, typer.Option(help="The scaling policy.")] = ROOT / "policy.yml",
    webhook_url: Annotated[str, typer.Option(help="Where Alertmanager posts.")] = _EXAMPLE.webhook_url,
    cluster_id: Annotated[str, typer.Option(help="The service's CLUSTER_ID.")] = _EXAMPLE.cluster_id,
    credentials_file: Annotated[
        str, typer.Option(help="Where Alertmanager reads the bearer token.")
    ] = _EXAMPLE.credentials_file,
    image_digest: Annotated[
        list[str] | None, typer.Option(help="An image of the manifests by content: prometheus=sha256:...; repeatable.")
    ] = None,
    local: Annotated[
        bool,
        typer.Option("--local", help="For a Prometheus of one cluster: metrics.matchers are its external labels."),
    ] = False,
    out: Annotated[Path, typer.Option(help="The folder to write to.")] = ROOT / "monitoring",
) -> None:
    """Render Prometheus' rules and scrapes, Alertmanager's routes and the manifests that carry them from a policy."""
    try:
        settings = Settings(
            cluster_id=cluster_id, webhook_url=webhook_url, credentials_file=credentials_file, local=local
        )
        decoded = load_policy(policy, named_by="with --policy")
        files = render(decoded, settings) | render_manifests(decoded, cluster_id, parse_digests(image_digest or []))
    except (PolicyError, RenderError) as error:
        _refuse(str(error))
    try:
        write(files, out)
    except OSError as error:
        _refuse(f"The files could not be written into {out}: {error.strerror}. Name a folder that you may write to.")
    sys.stderr.write(f"Rendered {', '.join(files)} into {out}.\n")


def parse_digests(given: Iterable[str]) -> dict[str, str]:
    """Digests by image from `prometheus=sha256:...` texts; what they hold is checked by `render_manifests`."""
    return {image: digest for image, _, digest in (text.partition("=") for text in given)}


def _refuse(sentence: str) -> NoReturn:
    sys.stderr.write(f"{sentence}\n")
    raise typer.Exit(2)


if __name__ == "__main__":
    typer.run(main)
