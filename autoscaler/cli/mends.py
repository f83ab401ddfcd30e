"""What a person can do about a failed call, by its code: AWS' own or the SDK's name of the exception."""

from typing import Final

_SIGN_IN: Final = "Give credentials: --profile, AWS_PROFILE, or sign in."
_AGAIN: Final = "Sign in again: these credentials have ended, or cannot be renewed."
_STRANGER: Final = "AWS does not know these credentials: check the profile and the clock of this machine."
_RIGHT: Final = (
    "Whoever administers the account can grant what the message names (docs/operations.md lists what each needs)."
)
_REGION: Final = "Give --region, or set AWS_REGION."
_WAY: Final = "Check the connection, the region, --endpoint-url and HTTPS_PROXY."
_BETWEEN: Final = (
    "Something between here and AWS answered: check HTTPS_PROXY, --endpoint-url, or a portal that wants a sign-in."
)

MENDS: Final = {
    "NoCredentialsError": _SIGN_IN,
    "PartialCredentialsError": _SIGN_IN,
    "NoAuthTokenError": _SIGN_IN,
    "CredentialRetrievalError": _AGAIN,
    "TokenRetrievalError": _AGAIN,
    "UnauthorizedSSOTokenError": _AGAIN,
    "SSOTokenLoadError": _AGAIN,
    "LoginTokenLoadError": _AGAIN,
    "ExpiredToken": _AGAIN,
    "ExpiredTokenException": _AGAIN,
    "RequestExpired": _AGAIN,
    "InvalidClientTokenId": _STRANGER,
    "UnrecognizedClientException": _STRANGER,
    "SignatureDoesNotMatch": _STRANGER,
    "InvalidSignatureException": _STRANGER,
    "AuthFailure": _STRANGER,
    "AccessDenied": _RIGHT,
    "AccessDeniedException": _RIGHT,
    "UnauthorizedOperation": _RIGHT,
    "NoRegionError": _REGION,
    "InvalidRegionError": _REGION,
    "ProfileNotFound": "`aws configure list-profiles` names those that there are.",
    "ConfigParseError": "Mend ~/.aws/config, or name another one with AWS_CONFIG_FILE.",
    "EndpointConnectionError": _WAY,
    "ConnectTimeoutError": _WAY,
    "ConnectionClosedError": _WAY,
    "ReadTimeoutError": _WAY,
    "ProxyConnectionError": _WAY,
    "SSLError": "Check the clock of this machine, and AWS_CA_BUNDLE where a proxy opens TLS.",
    "ResponseParserError": _BETWEEN,
}
"""Source: the service's API references, "Common errors", and botocore.exceptions."""


def mend_of(code: str) -> str:
    """A sentence that says what to do; empty where the code says nothing of it."""
    return MENDS.get(code, "")
