"""Token buckets: so many requests a second, and so many at once (API Gateway developer guide, "Throttle requests").

Each process of a node counts what comes to it.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from typing import Any

MOST_BUCKETS = 10_000
"""The least recently used is forgotten, which makes it full."""


class Bucket:
    __slots__ = ("_at", "_burst", "_rate", "_tokens")

    def __init__(self, rate: float, burst: int, now: float) -> None:
        """`rate` tokens a second come in, `burst` are held."""
        self._rate, self._burst = rate, burst
        self._tokens = float(burst)
        self._at = now

    def fits(self, rate: float, burst: int) -> bool:
        return (rate, burst) == (self._rate, self._burst)

    def take(self, now: float) -> bool:
        self._tokens = min(float(self._burst), self._tokens + (now - self._at) * self._rate)
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class Throttle:
    """Buckets by any key."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buckets: OrderedDict[Hashable, Bucket] = OrderedDict()

    def take(self, key: Hashable, *, rate: float, burst: int) -> bool:
        """Whether one more may pass now. Changed limits begin with a full bucket."""
        now = self._clock()
        bucket = self._buckets.get(key)
        if bucket is None or not bucket.fits(rate, burst):
            bucket = self._buckets[key] = Bucket(rate, burst, now)
            if len(self._buckets) > MOST_BUCKETS:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(key)
        return bucket.take(now)

    def passes(self, stage: Mapping[str, Any], place: Hashable, route_key: str) -> bool:
        """By the limits of the route, else of the stage, as API Gateway's second version shows them."""
        settings = {
            **(stage.get("DefaultRouteSettings") or {}),
            **(stage.get("RouteSettings") or {}).get(route_key, {}),
        }
        rate, burst = settings.get("ThrottlingRateLimit"), settings.get("ThrottlingBurstLimit")
        return self.take_limits((place, route_key), rate, burst)

    def take_limits(self, key: Hashable, rate: float | None, burst: int | None) -> bool:
        """With one of the limits alone the other follows from it; without both everything passes."""
        if rate is None and burst is None:
            return True
        limit = rate if rate is not None else float(burst or 0)
        most = burst if burst is not None else max(1, int(limit))
        return self.take(key, rate=limit, burst=most)
