"""The log: a ring of bounded size, filled by the topics that the configuration names.

`logging: {topics: [igmp-proxy, debug], action: memory, size: 1000}` decides what is kept: a line belongs to one topic;
lines of level debug need the topic `debug` as well; warnings and errors are kept whatever the topics are, so that a
short list hides no fault.  Repeats are limited twice: the same line comes once in `_SAME_MS`, and one event leaves
at most `_BURST` lines in `_BURST_MS`; the next line that is kept tells how many were left out.
"""

from __future__ import annotations

import datetime as dt
import itertools
import logging
import re
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping

from igmpconf.model.answers import MOST_LINES, LogField, LogPage, LogRow
from igmpconf.model.config import LoggingConfig, default_of

DEBUG = "debug"
PACKET = "packet"
PROXY = "igmp-proxy"
NETCONF = "netconf"
FIREWALL = "firewall"

_SAME_MS = 10_000
_MOST_REMEMBERED = 4_096  # different lines whose repeats are counted; the oldest are forgotten
_BURST = 200
_BURST_MS = 1_000
_MOST_CHARACTERS = 1_000  # of a value; the range of the leaf
_CONTROL = re.compile(r"[\x00-\x1f]+")
_ALWAYS = frozenset({"warning", "error"})


class LogBook:
    """Takes what happens, keeps the newest lines.

    `clock_ms` is monotonic, `wall_s` the time of day (both injected, so that tests own them).
    """

    def __init__(
        self,
        *,
        clock_ms: Callable[[], int] = lambda: time.monotonic_ns() // 1_000_000,
        wall_s: Callable[[], float] = time.time,
    ) -> None:
        self._clock_ms = clock_ms
        self._wall_s = wall_s
        self._last = 0
        self._started = self._now()
        self._seen: OrderedDict[tuple[object, ...], list[int]] = OrderedDict()  # line -> [when kept, left out since]
        self._bursts: dict[str, list[int]] = {}  # event -> [window began, lines in it, left out since the last kept]
        self._lines: deque[LogRow] = deque()
        self.configure(None)

    def configure(self, config: LoggingConfig | None) -> None:
        """Obey another configuration; what is kept already stays, as far as the new size allows."""
        config = config or LoggingConfig()
        self._topics = frozenset(config.topics or default_of(LoggingConfig, "topics"))
        self.is_journal = (config.action or default_of(LoggingConfig, "action")) == "journal"
        self._lines = deque(self._lines, maxlen=config.size or default_of(LoggingConfig, "size"))
        self.wants_debug = self.wants(DEBUG, PROXY)
        self.wants_packets = PACKET in self._topics

    def wants(self, level: str, topic: str) -> bool:
        """Whether a line would be kept."""
        return level in _ALWAYS or (topic in self._topics and (level != DEBUG or DEBUG in self._topics))

    def take(
        self, level: str, topic: str, event: str, fields: Mapping[str, object] | Iterable[tuple[str, object]] = (), at_s: float | None = None
    ) -> LogRow | None:
        """Keep a line if its topic is wanted and it is no repetition; what was kept, or None.

        `at_s` is the time of day at which it happened, if that is not now.
        """
        if not self.wants(level, topic):
            return None
        pairs = tuple((name, _printable(value)) for name, value in dict(fields).items() if value is not None)
        now_ms = self._clock_ms()
        key = (event, pairs)
        left_out = self._left_out(key, event, now_ms)
        if left_out is None:
            return None
        self._last += 1
        row = LogRow(
            number=self._last,
            time=self._now() if at_s is None else _time_text(at_s),
            level=level,
            topic=topic,
            event=event,
            repeated=left_out or None,
            fields=tuple(LogField(name=name, value=value) for name, value in pairs),
        )
        self._lines.append(row)
        return row

    def leaves_out(self, level: str, event: str) -> bool:
        """Whether a line would be one too many of its event, whatever it says; then it is counted as left out already."""
        if level in _ALWAYS:
            return False
        burst = self._bursts.get(event)
        if burst is None or burst[1] < _BURST or self._clock_ms() - burst[0] >= _BURST_MS:
            return False
        burst[2] += 1
        return True

    def _left_out(self, key: tuple[object, ...], event: str, now_ms: int) -> int | None:
        """How many lines like this were left out before it, or None when this one is left out too."""
        same = self._seen.get(key)
        if same is not None and now_ms - same[0] < _SAME_MS:
            same[1] += 1
            return None
        burst = self._bursts.setdefault(event, [now_ms, 0, 0])
        if now_ms - burst[0] >= _BURST_MS:
            burst[0], burst[1] = now_ms, 0
        if burst[1] >= _BURST:
            burst[2] += 1
            return None
        burst[1] += 1
        left_out = burst[2] + (same[1] if same is not None else 0)
        burst[2] = 0
        self._seen[key] = [now_ms, 0]
        self._seen.move_to_end(key)
        if len(self._seen) > _MOST_REMEMBERED:
            self._seen.popitem(last=False)
        return left_out

    def page(self, after: int | None = None, limit: int = MOST_LINES) -> LogPage:
        """At most `limit` lines: those that follow number `after`, or without it the newest ones.

        A number that was never given (the reader knew an earlier process) counts as 0.
        """
        lines = list(self._lines)
        if after is None:
            return LogPage(started=self._started, last=self._last, lines=tuple(lines[-limit:]))
        if after > self._last:
            after = 0
        first = lines[0].number if lines else self._last + 1
        wanted = tuple(itertools.islice((line for line in lines if line.number > after), limit))
        return LogPage(started=self._started, last=self._last, lost=max(0, first - 1 - after) or None, lines=wanted)

    def _now(self) -> str:
        return _time_text(self._wall_s())


def _time_text(wall_s: float) -> str:
    return dt.datetime.fromtimestamp(wall_s, dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _printable(value: object) -> str:
    return _CONTROL.sub(" ", str(value))[:_MOST_CHARACTERS]


def text(row: LogRow) -> str:
    """A line for people: time, level, topic, event, its facts."""
    facts = " ".join(f"{one.name}={_quoted(one.value)}" for one in row.fields)
    repeated = f" (and {row.repeated} more left out)" if row.repeated else ""
    return f"{row.time} {row.level:<7} {row.topic} {row.event} {facts}".rstrip() + repeated


def _quoted(value: str) -> str:
    return f'"{value}"' if not value or " " in value else value


class BookHandler(logging.Handler):
    """Carries what the program logs into a book: structured lines by their `event` and `fields`, others as they are."""

    def __init__(self, book: LogBook) -> None:
        super().__init__()
        self._book = book

    def leaves_out(self, level: str, event: str) -> bool:
        """Whether there is no use in making a record of it (LogBook)."""
        return self._book.leaves_out(level, event)

    def emit(self, record: logging.LogRecord) -> None:
        level = next(name for number, name in _LEVELS if record.levelno >= number)
        event = getattr(record, "event", None)
        if event is None:
            first, _, rest = record.getMessage().partition("\n")
            fields = {"text": first, "detail": rest.strip() or None}
            row = self._book.take(level, NETCONF, record.name.removeprefix("igmpconf."), fields)
        else:
            row = self._book.take(level, _topic(record.name, event), event, getattr(record, "fields", {}), record.created)
        record.for_journal = row is not None and self._book.is_journal


def for_journal(record: logging.LogRecord) -> bool:
    """Whether the program's standard error gets a line, which systemd puts into the journal.

    Warnings, errors and what the program says of its own start and end always; the log's lines only with `action: journal`.
    """
    return record.levelno >= logging.WARNING or not hasattr(record, "event") or bool(getattr(record, "for_journal", False))


_LEVELS = ((logging.ERROR, "error"), (logging.WARNING, "warning"), (logging.INFO, "info"), (0, "debug"))


def _topic(logger: str, event: str) -> str:
    if logger != "igmpconf.engine":
        return NETCONF
    return {"firewall": FIREWALL, "message": PACKET}.get(event.partition("/")[0], PROXY)
