"""Every exception this project raises on purpose.

    IgmpconfError                exit   retryable
    ├── InputError(diagnostics)     3   no      schema, semantics, inventory, template
    ├── StalePlan(device)           4   no      running differs from the plan's base: plan again
    ├── TransportError(device)      5   yes     unreachable, refused, timeout, session lost
    ├── RpcFailed(device, errors)   6   tag     RFC 6241 error-tags kept; lock-denied is retryable
    ├── RolledBack(devices, cause)  7   no      safe: nothing changed
    ├── InDoubt(devices)            8   resume  a human must look; names the devices and the command
    ├── KernelError(verb, errno)    9   maybe   agent only; says which capability or CONFIG_* is missing
    └── WireError(reason, offset)   -   -       never leaves engine/wire and its caller

A type exists only if someone catches it differently.  Many findings at once are `Diagnostic`s
(igmpconf/schema/diagnostic.py); one reason to stop is an exception; neither is used for the other.
A message says what was being done, to whom, what was expected, and what to do next.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar


class IgmpconfError(Exception):
    """The root: `exit_code` is what the command line returns for it."""

    exit_code: ClassVar[int] = 1
    retryable: bool = False

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class InputError(IgmpconfError):
    """What the user wrote cannot be used; `diagnostics` hold every complaint, already in order."""

    exit_code = 3

    def __init__(self, message: str, diagnostics: Sequence[object] = (), *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.diagnostics = tuple(diagnostics)


class StalePlan(IgmpconfError):
    """The device is no longer in the state that the plan was made against."""

    exit_code = 4

    def __init__(self, device: str, message: str, *, hint: str | None = "make a new plan and look at it again") -> None:
        super().__init__(message, hint=hint)
        self.device = device


class TransportError(IgmpconfError):
    """The device could not be reached, refused us, or the session was lost."""

    exit_code = 5

    def __init__(self, device: str, message: str, *, hint: str | None = None, retryable: bool = True) -> None:
        super().__init__(message, hint=hint)
        self.device = device
        self.retryable = retryable


class RpcFailed(IgmpconfError):
    """The device answered with `<rpc-error>`; `errors` keep RFC 6241 tags as received."""

    exit_code = 6

    def __init__(self, device: str, message: str, errors: Sequence[object] = (), *, hint: str | None = None, retryable: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.device = device
        self.errors = tuple(errors)
        self.retryable = retryable


class RolledBack(IgmpconfError):
    """The change was undone: every named device is as it was before."""

    exit_code = 7

    def __init__(self, devices: Sequence[str], message: str, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.devices = tuple(devices)


class InDoubt(IgmpconfError):
    """We could not learn whether the named devices are old or new; the hint is the command that settles it."""

    exit_code = 8

    def __init__(self, devices: Sequence[str], message: str, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.devices = tuple(devices)


class KernelError(IgmpconfError):
    """The kernel refused a verb; `errno` is its answer."""

    exit_code = 9

    def __init__(self, verb: str, errno: int, message: str, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.verb = verb
        self.errno = errno


class WireError(IgmpconfError):
    """A message from the network is malformed: `reason` names the counter, `offset` the octet."""

    def __init__(self, reason: str, offset: int = 0) -> None:
        super().__init__(f"{reason} at octet {offset}")
        self.reason = reason
        self.offset = offset
