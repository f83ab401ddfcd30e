"""The same false account as for the adapters."""

from tests.aws.conftest import _moto, _no_real_account, calls, clients

__all__ = ["_moto", "_no_real_account", "calls", "clients"]
