"""Servers that share requests: the least busy healthy one is next, one that fails rests, and a pace is kept."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

_STRIKES = 3
"""Failures in a row after which an endpoint rests; then one request at a time tries whether it is back."""


@dataclass
class Endpoint:
    """One server.

    Attributes:
        url: Its base URL.
        in_flight: Requests under way.
        failures: Failures in a row.
        rests_until: Clock of the event loop, seconds.
    """

    url: str
    in_flight: int = 0
    failures: int = 0
    rests_until: float = 0.0


class EndpointPool:
    """Endpoints by load and health.

    Args:
        urls: Base URLs.
        concurrency: Most requests under way at one endpoint.
        backoff: First rest, seconds; it doubles with each further failure.
        max_backoff: Longest rest, seconds.
    """

    def __init__(self, urls: Sequence[str], concurrency: int, backoff: float, max_backoff: float) -> None:
        self.endpoints = [Endpoint(url) for url in urls]
        self.concurrency, self.backoff, self.max_backoff = concurrency, backoff, max_backoff
        self._waiting: set[asyncio.Future[None]] = set()
        self._failing_since: float | None = None
        self._turn = 0

    @asynccontextmanager
    async def take(self) -> AsyncIterator[Endpoint]:
        """The endpoint for the next request; waits while all rest or are busy."""
        while (endpoint := self._next()) is None:
            await self._change()
        endpoint.in_flight += 1
        try:
            yield endpoint
        finally:
            endpoint.in_flight -= 1
            self._wake()

    def succeeded(self, endpoint: Endpoint) -> None:
        endpoint.failures = 0
        self._failing_since = None

    def failed(self, endpoint: Endpoint) -> None:
        self.refused()
        endpoint.failures += 1
        if endpoint.failures >= _STRIKES:
            self.rest(endpoint, self.wait(endpoint.failures - _STRIKES))

    def refused(self) -> None:
        """A request came to nothing, though its endpoint is well."""
        if self._failing_since is None:
            self._failing_since = _now()

    def rest(self, endpoint: Endpoint, seconds: float) -> None:
        """Send no request to an endpoint for so long."""
        endpoint.rests_until = max(endpoint.rests_until, _now() + seconds)

    def wait(self, failures: int) -> float:
        """Seconds to wait after so many failures: exponential, between half of it and the whole by chance."""
        return min(self.max_backoff, self.backoff * 2.0 ** min(failures, 30)) * random.uniform(0.5, 1.0)

    def outage(self) -> float:
        """Seconds since when every request to any endpoint has failed; 0 if the last one succeeded."""
        return 0.0 if self._failing_since is None else _now() - self._failing_since

    def _next(self) -> Endpoint | None:
        now = _now()
        able = [
            endpoint
            for endpoint in self.endpoints
            if endpoint.rests_until <= now
            and endpoint.in_flight < (1 if endpoint.failures >= _STRIKES else self.concurrency)
        ]
        if not able:
            return None
        self._turn += 1
        least = min(endpoint.in_flight for endpoint in able)
        able = [endpoint for endpoint in able if endpoint.in_flight == least]
        return able[self._turn % len(able)]

    async def _change(self) -> None:
        """Until a request has ended or the next rest is over."""
        loop = asyncio.get_running_loop()
        rests = [e.rests_until - loop.time() for e in self.endpoints if e.rests_until > loop.time()]
        future = loop.create_future()
        self._waiting.add(future)
        try:
            await asyncio.wait([future], timeout=min(rests) if rests else None)
        finally:
            self._waiting.discard(future)

    def _wake(self) -> None:
        for future in self._waiting:
            if not future.done():
                future.set_result(None)


class Pace:
    """At most so many requests a minute, evenly spread."""

    def __init__(self, per_minute: float | None) -> None:
        self._gap = 60.0 / per_minute if per_minute else 0.0
        self._next = 0.0

    async def wait(self) -> None:
        if not self._gap:
            return
        now = _now()
        due = max(now, self._next)
        self._next = due + self._gap
        if due > now:
            await asyncio.sleep(due - now)


def _now() -> float:
    return asyncio.get_running_loop().time()
