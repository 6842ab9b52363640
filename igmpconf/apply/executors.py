"""Who does the work: the executors that `--executor` names, and how a leg that nobody has begun is taken back.

A leg that was sent to a Dask scheduler may wait there for a worker.  To take it back for certain, two flags are kept by
the scheduler, which does one thing after the other: the worker raises `begun` before it looks at `withdrawn`, we raise
`withdrawn` before we look at `begun`.  Of the two at least one sees the other's flag.  A leg that is at work is told of the
second one, too, and hurries.
"""

from __future__ import annotations

import contextlib
import importlib
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any, TypeVar

from igmpconf.errors import IgmpconfError, InputError

THREADS = "threads"
_CONNECT_S = 10
_WATCH_S = 1  # so long a worker's thread outlives its leg at most

T = TypeVar("T")


class LegWithdrawn(Exception):
    """A worker was about to begin a leg, and it had been withdrawn."""


@contextlib.contextmanager
def executor_of(text: str) -> Iterator[Executor | None]:
    """The executor of `threads` (None: the rollout makes its own) or `dask://HOST:PORT`, ended afterwards.

    Raises InputError for anything else, IgmpconfError when the scheduler cannot be used.
    """
    if text == THREADS:
        yield None
        return
    if not text.startswith("dask://"):
        raise InputError(f"there is no executor {text!r}", hint="write threads, or dask://HOST:PORT of a scheduler")
    client = _dask(text.removeprefix("dask://"))
    try:
        yield DaskExecutor(client)
    finally:
        client.close()


def _dask(address: str) -> Any:
    try:
        distributed: Any = importlib.import_module("distributed")  # an extra, and a second to import
    except ImportError:
        raise IgmpconfError("Dask is not installed here", hint="pip install 'igmpconf[dask]', on the workers as well") from None
    try:
        client = distributed.Client(f"tcp://{address}", timeout=_CONNECT_S, set_as_default=False)
    except (OSError, ValueError) as error:
        raise IgmpconfError(f"the scheduler dask://{address} does not answer: {error}", hint="start it: dask scheduler --port 8786") from None
    if not client.scheduler_info().get("workers"):
        client.close()
        raise IgmpconfError(f"the scheduler dask://{address} has no workers", hint=f"start some: dask worker tcp://{address}")
    return client


class DaskExecutor(Executor):
    """The workers of a scheduler; what none of them has begun can be withdrawn."""

    def __init__(self, client: Any) -> None:
        self._client = client
        # pure=False: the same leg twice is two legs; Dask would otherwise answer the second from memory.
        self._inner: Executor = client.get_executor(pure=False)
        self._names: dict[Future[Any], str] = {}

    def submit(self, call: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """As every executor; cancelling the future alone would not stop a worker that has begun, `withdraw` tells."""
        name = f"igmpconf-leg-{uuid.uuid4().hex}"
        future = self._inner.submit(begin, name, call, *args, **kwargs)
        self._names[future] = name
        future.add_done_callback(self._forget)
        return future

    def withdraw(self, future: Future[Any]) -> bool:
        """Whether nobody has begun it, and from now on nobody will."""
        name = self._names.get(future)
        if name is None or future.done():
            return False
        try:
            _flag(name, "withdrawn", self._client).set()
            is_begun: bool = _flag(name, "begun", self._client).is_set()
        except OSError:  # the scheduler is gone; what it had given to a worker goes on
            return False
        return not is_begun and future.cancel()

    def _forget(self, future: Future[Any]) -> None:
        """The scheduler need not remember it.  The flag of one that is withdrawn stays: a worker may still pick it up."""
        name = self._names.pop(future)
        if not future.cancelled():
            self._client.loop.add_callback(self._client.scheduler.event_clear, name=f"{name}-begun")


def begin(name: str, call: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """On a worker: do it, unless it was withdrawn; if it is withdrawn later, `call.hurry()`.  Raises LegWithdrawn."""
    _flag(name, "begun").set()
    withdrawn = _flag(name, "withdrawn")
    if withdrawn.is_set():
        raise LegWithdrawn(name)
    hurry: Callable[[], None] | None = getattr(call, "hurry", None)
    if hurry is None:
        return call(*args, **kwargs)
    is_over = threading.Event()
    threading.Thread(target=_watch, args=(withdrawn, is_over, hurry), name="withdrawal", daemon=True).start()
    try:
        return call(*args, **kwargs)
    finally:
        is_over.set()


def _watch(withdrawn: Any, is_over: threading.Event, hurry: Callable[[], None]) -> None:
    with contextlib.suppress(OSError):  # a scheduler that is gone withdraws nothing
        while not is_over.is_set():
            if withdrawn.wait(timeout=_WATCH_S):
                hurry()
                return


def _flag(name: str, what: str, client: Any = None) -> Any:
    distributed: Any = importlib.import_module("distributed")
    return distributed.Event(f"{name}-{what}", client=client)


def withdrawal(executor: Executor) -> Callable[[Future[Any]], bool]:
    """How a call is taken back; it answers whether nobody has begun it and nobody will.

    The futures of Dask's own executor can be cancelled while a worker is busy with them, and so may those of others:
    nothing that was handed to those is taken back.
    """
    match executor:
        case DaskExecutor():
            return executor.withdraw
        case ThreadPoolExecutor() | ProcessPoolExecutor():
            return Future.cancel
        case _:
            return lambda _future: False
