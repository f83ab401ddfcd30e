"""The launch templates that a policy's pools need, as JSON: `python -m autoscaler.deploy.pools POLICY [IMAGE]`.

scripts/worker-pools.js asks, and makes resources of them; the policy's hash becomes an output of the stack. IMAGE is
the name of the public parameter that the deployment takes the workers' image from; empty where it names an image's id,
which says nothing of its architecture.
"""

import sys
from pathlib import Path
from typing import Final

import msgspec

from autoscaler.deploy.architecture import ec2_name, of_image_name
from autoscaler.policy import Policy, policy_hash
from autoscaler.policy_files import load_policy
from autoscaler.policy_text import PolicyError
from autoscaler.pools import WorkerPool, further_templates

POOL_LABEL: Final = "k3s-autoscaler/pool"
_OTHER_WORDS: Final = (("x86_64", "arm64"), ("amd64", "arm64"))
"""How the names of public parameters tell architectures apart (Amazon Linux, Bottlerocket; Ubuntu)."""
_AMD64_WORD: Final = {True: "amd64", False: "x86_64"}
_UBUNTU: Final = "/canonical/"


class LaunchTemplate(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What one of them has of its own. The first is the one that every deployment has, under the same logical id."""

    suffix: str
    """Of logical ids; empty for the first."""
    pool: str
    arch: str
    image_id: str = ""
    image_parameter: str = ""
    """Both empty: the deployment's image."""
    volume_gb: int | None = None
    subnets: tuple[str, ...] = ()
    agent_arguments: tuple[str, ...] = ()


def templates(policy: Policy, image: str) -> tuple[LaunchTemplate, ...]:
    """The default pool's first, then one for each further pool and architecture. Raises PolicyError."""
    first = policy.default_pool
    deployed = of_image_name(image) or ec2_name(first.archs[0])
    found = [_template(first, first.archs[0], suffix="", image=_own_image(policy, first))]
    for pool, arch in further_templates(policy.pools):
        own = _own_image(policy, pool)
        if not own and ec2_name(arch) != deployed:
            own = _sibling(image)
            if not own:
                raise PolicyError(
                    f"{_where(policy, pool)} has types of {arch}, and the deployment's image is one of another "
                    f"architecture{f' ({image})' if image else ''}: give the pool an image of {arch}, or the parameter "
                    "workerImageParameter a name that tells the architecture."
                )
        found.append(_template(pool, arch, suffix=_suffix(pool, arch), image=own))
    return tuple(found)


def _template(pool: WorkerPool, arch: str, *, suffix: str, image: str) -> LaunchTemplate:
    is_id = image.startswith("ami-")
    return LaunchTemplate(
        suffix=suffix,
        pool=pool.name,
        arch=arch,
        image_id=image if is_id else "",
        image_parameter="" if is_id else image,
        volume_gb=pool.volume_gb,
        subnets=pool.subnets,
        agent_arguments=(
            *pool.agent_args,
            f"--node-label={POOL_LABEL}={pool.name}",
            *(f"--node-label={key}={value}" for key, value in sorted(pool.labels.items())),
            *(f"--node-taint={taint}" for taint in pool.taints),
        ),
    )


def _own_image(policy: Policy, pool: WorkerPool) -> str:
    """The pool's, where it names one. Raises PolicyError for one that cannot start all of its types."""
    if pool.image and len(pool.archs) > 1:
        raise PolicyError(
            f"{_where(policy, pool)} has types of {' and '.join(pool.archs)} and one image: make two pools of it, each "
            "with its own, or leave the image out."
        )
    if pool.image and of_image_name(pool.image) not in {None, ec2_name(pool.archs[0])}:
        raise PolicyError(
            f"{_where(policy, pool)} has types of {pool.archs[0]}, and the image {pool.image} is of another: name one "
            "of that architecture."
        )
    return pool.image


def _where(policy: Policy, pool: WorkerPool) -> str:
    return f"workers.pools.{pool.name}" if policy.workers.pools else "workers.instance_types"


def _sibling(image: str) -> str:
    """The name of the same image for the other architecture; empty where its name does not tell."""
    if "arm64" in image:
        return image.replace("arm64", _AMD64_WORD[_UBUNTU in image])
    return next((image.replace(word, other) for word, other in _OTHER_WORDS if word in image), "")


def _suffix(pool: WorkerPool, arch: str) -> str:
    """Logical ids hold letters and digits only: names have no capitals, so that an X tells a hyphen."""
    name = pool.name.replace("-", "X")
    return f"Of{name[0].upper()}{name[1:]}{arch.capitalize()}"


def main() -> None:
    """Read the policy that the command line names."""
    path, image = (*sys.argv[1:], "")[:2]
    try:
        policy = load_policy(Path(path), named_by="as the argument")
        found = templates(policy, image)
    except (OSError, UnicodeDecodeError, PolicyError) as error:
        sys.exit(str(error))
    answer = {"policyHash": policy_hash(policy), "templates": found}
    sys.stdout.write(msgspec.json.encode(answer).decode() + "\n")


if __name__ == "__main__":
    main()
