"""Who does the work: the executors that `--executor` names."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from concurrent.futures import Executor
from typing import Any

from igmpconf.errors import IgmpconfError, InputError

THREADS = "threads"
_CONNECT_S = 10


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
        # pure=False: the same leg twice is two legs; Dask would otherwise answer the second from memory.
        executor: Executor = client.get_executor(pure=False)
        yield executor
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
