"""The refusals of a Kubernetes API server, to the letter: kubectl and the script go by their fields and words."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Refusal(Exception):
    """An answer that is no success: the HTTP code and the fields of its Status."""

    code: int
    reason: str
    message: str
    details: dict[str, Any] = field(default_factory=dict)
    retry_after_s: int = 0
    """Sent as a header too: client-go then sends the request again by itself."""

    def body(self) -> dict[str, Any]:
        details = self.details | ({"retryAfterSeconds": self.retry_after_s} if self.retry_after_s else {})
        return {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            **({"details": details} if details else {}),
            "code": self.code,
        }


def not_found(resource: str, name: str, group: str = "") -> Refusal:
    title = f"{resource}.{group}" if group else resource
    return Refusal(404, "NotFound", f'{title} "{name}" not found', {"name": name, "group": group, "kind": resource})


def conflict(resource: str, name: str, why: str) -> Refusal:
    message = f'Operation cannot be fulfilled on {resource} "{name}": {why}'
    return Refusal(409, "Conflict", message, {"name": name, "kind": resource})


MODIFIED = "the object has been modified; please apply your changes to the latest version and try again"


def over_budget(budget: str, *, settling: bool = False) -> Refusal:
    """Of pkg/registry/core/pod/storage/eviction.go. A budget its controller has not seen yet says when to ask again."""
    words = "is still being processed by the server." if settling else "needs 1 healthy pods and has 1 currently"
    cause = {"reason": "DisruptionBudget", "message": f"The disruption budget {budget} {words}"}
    message = "Cannot evict pod as it would violate the pod's disruption budget."
    return Refusal(429, "TooManyRequests", message, {"causes": [cause]}, retry_after_s=10 if settling else 0)


TWO_BUDGETS = Refusal(
    500,
    "",
    "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
)


def ending_namespace(pod: str, namespace: str) -> Refusal:
    words = f"unable to create new content in namespace {namespace} because it is being terminated"
    cause = {
        "reason": "NamespaceTerminating",
        "message": f"namespace {namespace} is being terminated",
        "field": "metadata.namespace",
    }
    return Refusal(
        403, "Forbidden", f'pods "{pod}" is forbidden: {words}', {"name": pod, "kind": "pods", "causes": [cause]}
    )


def denied(words: str) -> Refusal:
    """By an admission webhook that names no code of its own."""
    return Refusal(400, "BadRequest", f'admission webhook "guard.example.org" denied the request: {words}')


def forbidden(pod: str, words: str) -> Refusal:
    """By an admission plug-in, or a ValidatingAdmissionPolicy."""
    return Refusal(403, "Forbidden", f'pods "{pod}" is forbidden: {words}', {"name": pod, "kind": "pods"})


SHUTTING_DOWN = Refusal(500, "InternalError", "apiserver is shutting down")
LOCKED = Refusal(500, "InternalError", "Internal error occurred: database is locked")
LEADER_CHANGED = Refusal(500, "", "etcdserver: leader changed")
OVERLOADED = Refusal(
    429, "TooManyRequests", "the server has received too many requests and has asked us to try again later"
)
STARTING = Refusal(503, "ServiceUnavailable", "the server is currently unable to handle the request")
WEBHOOK_DOWN = Refusal(
    500,
    "InternalError",
    'Internal error occurred: failed calling webhook "guard.example.org": failed to call webhook: Post '
    '"https://guard.kube-system.svc:443/validate?timeout=10s": dial tcp 10.43.0.9:443: connect: connection refused',
)
