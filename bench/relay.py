"""A relay with distance: what arrives leaves again a given time later, in both directions, in order.

One thread serves any number of connections, so that a thousand of them cost the measured side nothing.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Self

_BLOCK_BYTES = 65_536
Dial = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


class Relay:
    """`with Relay(round_trip_s=0.05) as relay:`; `relay.unix(here, there)` adds a place to connect to.

    `turns` counts, for all connections together, how often a client spoke after its server had: the round trips.
    """

    def __init__(self, round_trip_s: float) -> None:
        self._one_way_s = round_trip_s / 2
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="relay", daemon=True)
        self._servers: list[asyncio.Server] = []
        self.turns = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _close(self) -> None:
        for server in self._servers:
            server.close()
        mine = [task for task in asyncio.all_tasks(self._loop) if task is not asyncio.current_task()]
        for task in mine:
            task.cancel()
        await asyncio.gather(*mine, return_exceptions=True)

    def unix(self, here: Path, there: Path) -> None:
        """Serve `here` and pass everything on to `there`."""

        async def start() -> asyncio.Server:
            return await asyncio.start_unix_server(self._serve(lambda: asyncio.open_unix_connection(there)), here)

        self._servers.append(asyncio.run_coroutine_threadsafe(start(), self._loop).result(10))

    def tcp(self, port: int) -> int:
        """Serve a free port of the loopback and pass everything on to `port`; the answer is the free one."""

        async def start() -> asyncio.Server:
            return await asyncio.start_server(self._serve(lambda: asyncio.open_connection("127.0.0.1", port)), "127.0.0.1", 0)

        server = asyncio.run_coroutine_threadsafe(start(), self._loop).result(10)
        self._servers.append(server)
        found: int = server.sockets[0].getsockname()[1]
        return found

    def _serve(self, dial: Dial) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
        async def connection(near: asyncio.StreamReader, to_near: asyncio.StreamWriter) -> None:
            try:
                far, to_far = await dial()
            except OSError:
                to_near.close()
                return
            spoken = [True]  # the server has said something since the client did
            try:
                await asyncio.gather(self._pump(near, to_far, spoken, is_client=True), self._pump(far, to_near, spoken, is_client=False))
            finally:
                to_far.close()
                to_near.close()

        return connection

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, spoken: list[bool], *, is_client: bool) -> None:
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        writing = asyncio.create_task(self._write(queue, sink))
        try:
            while True:
                try:
                    data = await source.read(_BLOCK_BYTES)
                except ConnectionError:
                    data = b""
                queue.put_nowait((self._loop.time() + self._one_way_s, data))
                if is_client and spoken[0] and data:
                    self.turns += 1
                spoken[0] = not is_client
                if not data:
                    break
            await writing
        finally:
            writing.cancel()

    async def _write(self, queue: asyncio.Queue[tuple[float, bytes]], sink: asyncio.StreamWriter) -> None:
        while True:
            due, data = await queue.get()
            await asyncio.sleep(max(0.0, due - self._loop.time()))
            if not data:
                sink.close()
                return
            sink.write(data)
