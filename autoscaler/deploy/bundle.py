"""Packs what the K3s server runs beside K3s, so that it fits into SSM parameters: cloudformation/cluster/bundle.js.

The bundle is a tar.gz of the rendered manifests and the server's sync script, as base64 cut into pieces. The same
policy, templates and settings give the same pieces: names sorted, times and owners fixed.
"""

import base64
import gzip
import hashlib
import io
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer

from autoscaler.deploy.rules import ROOT, RenderError, parse_digests, render_manifests
from autoscaler.policy_files import load_policy
from autoscaler.policy_text import PolicyError

PIECE_CHARACTERS: Final = 4096
"""What a standard parameter holds (AWS Systems Manager endpoints and quotas: "Maximum size for parameter values")."""
SYNC_SCRIPT: Final = ROOT / "cloudformation" / "scripts" / "server-sync.sh"


class Bundle(msgspec.Struct, frozen=True, kw_only=True):
    """What the parameters hold."""

    info: str
    """`<number of pieces> <SHA-256 of the pieces put together>`."""
    pieces: tuple[str, ...]
    """Base64, at most PIECE_CHARACTERS each."""


def pack(files: Mapping[str, bytes]) -> Bundle:
    """Pack the files by their names in the archive; `*.sh` become executable."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in sorted(files.items()):
            member = tarfile.TarInfo(name)  # the epoch, owned by root
            member.size = len(content)
            member.mode = 0o755 if name.endswith(".sh") else 0o644
            tar.addfile(member, io.BytesIO(content))
    text = base64.b64encode(gzip.compress(archive.getvalue(), mtime=0)).decode("ascii")
    pieces = tuple(text[start : start + PIECE_CHARACTERS] for start in range(0, len(text), PIECE_CHARACTERS))
    return Bundle(info=f"{len(pieces)} {hashlib.sha256(text.encode()).hexdigest()}", pieces=pieces)


def main(
    cluster_id: Annotated[str, typer.Option(help="The service's CLUSTER_ID.")],
    policy: Annotated[Path, typer.Option(help="The scaling policy.")] = ROOT / "policy.yml",
    sync_script: Annotated[Path, typer.Option(help="What the server runs every minute.")] = SYNC_SCRIPT,
    image_digest: Annotated[
        list[str] | None, typer.Option(help="An image of the manifests by content: prometheus=sha256:...; repeatable.")
    ] = None,
) -> None:
    """Print the bundle of a cluster as JSON: `{"info": ..., "pieces": [...]}`."""
    try:
        decoded = load_policy(policy, named_by="with --policy")
        manifests = render_manifests(decoded, cluster_id, parse_digests(image_digest or []))
        script = sync_script.read_bytes()
    except (PolicyError, RenderError) as error:
        sys.stderr.write(f"{error}\n")
        raise typer.Exit(2) from error
    except OSError as error:
        sys.stderr.write(f"{sync_script} could not be read: {error.strerror}. Name the script with --sync-script.\n")
        raise typer.Exit(2) from error
    files = {name: text.encode() for name, text in manifests.items()} | {"server-sync.sh": script}
    sys.stdout.buffer.write(msgspec.json.encode(pack(files)) + b"\n")


if __name__ == "__main__":
    typer.run(main)
