"""What is wrong with data, said as NETCONF says it: `<rpc-error>` with tag, XPath and hint."""

from __future__ import annotations

from collections.abc import Iterable

from igmpconf.model.path import parse_path
from igmpconf.netconf.messages import RpcError
from igmpconf.schema.diagnostic import Diagnostic
from igmpconf.schema.errors import DataError, xpath
from igmpconf.schema.names import NAMESPACE, PREFIX, prefixes_in

_PREFIXES = ((PREFIX, NAMESPACE),)


def data_error(error: DataError) -> RpcError:
    """The payload of an operation does not fit the model (RFC 7950 8.3.1)."""
    message = f"{error.message}; {error.hint}" if error.hint else error.message
    prefixes = prefixes_in(error.path or "")
    return RpcError(error.error_type, error.tag, app_tag=error.app_tag, path=error.path, message=message, info=tuple(error.info.items()), prefixes=prefixes)


def semantic_errors(found: Iterable[Diagnostic]) -> tuple[RpcError, ...]:
    """The errors among `found`; warnings are the controller's to show."""
    return tuple(
        RpcError(
            "application",
            "operation-failed",
            app_tag=one.code,
            path=_xpath(one.path),
            message=f"{one.message}; {one.hint}" if one.hint else one.message,
            prefixes=_PREFIXES,
        )
        for one in found
        if one.is_error
    )


def _xpath(keyed: str) -> str | None:
    try:
        path = parse_path(keyed)
    except ValueError:
        return None
    return xpath(path) if path else None
