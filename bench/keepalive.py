"""Cold starts and memory-time of the keep-alive policies: a day in virtual time, through the node's own pool.

`.venv/bin/python bench/keepalive.py [SEED]`. What arrives is drawn after the distributions that "Serverless in the
Wild" (USENIX ATC 2020) publishes: rates after figure 5 (45 % of applications at most hourly, 81 % at most once a
minute), execution times log-normal (-0.38, 2.36), memory Burr (11.652, 0.221, 107.083), 16 % of functions on a timer.
Ours, because not published as numbers: how the others arrive, bursts of 2 to 20, init times log-normal (5.5, 1.0) in
ms, and that a run longer than MAX_RUN_S or a rate above MAX_PER_DAY is cut to that.
"""

from __future__ import annotations

import dataclasses
import heapq
import itertools
import math
import random
import sys
from collections.abc import Iterator

from lambent.dataplane.dispatch.keepalive.adaptive import AdaptiveKeepAlive
from lambent.dataplane.dispatch.keepalive.idle_pool import IdlePool
from lambent.dataplane.dispatch.keepalive.policy import FixedKeepAlive, KeepAlive
from lambent.dataplane.dispatch.keepalive.worth import GreedyDual, OldestFirst, Price, Worth
from lambent.model.invocation import PoolKey

DAY_S = 86_400.0
FUNCTIONS = 300
MAX_PER_DAY = 20_000.0
MAX_RUN_S = 60.0
FIXED_S = (60, 300, 600, 1_200, 3_600)
PATTERNS = {"timer": 0.16, "poisson": 0.42, "burst": 0.42}
"""Shares of functions. That of timers is published; how the rest divides is not, and here it does so evenly."""
CAP_SHARES = (0.1, 0.2, 0.4)
"""Memory caps, as shares of what all functions need when each has one environment."""


@dataclasses.dataclass(frozen=True, eq=False)
class Workload:
    key: PoolKey
    per_day: float
    pattern: str
    run_s: float
    init_ms: float
    size_mb: float


@dataclasses.dataclass(eq=False)
class Made:
    """An environment, as far as the replay needs one."""

    of: Workload
    since: float


@dataclasses.dataclass
class Tally:
    invocations: int = 0
    cold: int = 0
    cold_ms: float = 0.0
    ahead: int = 0
    mb_s: float = 0.0

    @property
    def cold_share(self) -> float:
        return self.cold / max(1, self.invocations)


def draw_workloads(rng: random.Random, count: int = FUNCTIONS) -> list[Workload]:
    return [
        Workload(
            key=(f"function-{number}", "1", "outgoing"),
            per_day=_draw_rate(rng),
            pattern=rng.choices(tuple(PATTERNS), tuple(PATTERNS.values()))[0],
            run_s=min(MAX_RUN_S, rng.lognormvariate(-0.38, 2.36)),
            init_ms=rng.lognormvariate(5.5, 1.0),
            size_mb=_draw_memory(rng),
        )
        for number in range(count)
    ]


def _draw_rate(rng: random.Random) -> float:
    """Log-uniform between the points of the published distribution."""
    points = ((0.0, 1.0), (0.45, 24.0), (0.81, 1_440.0), (1.0, MAX_PER_DAY))
    share = rng.random()
    for (low, low_rate), (high, high_rate) in itertools.pairwise(points):
        if share <= high:
            part = (share - low) / (high - low)
            return math.exp(math.log(low_rate) + part * math.log(high_rate / low_rate))
    return MAX_PER_DAY


def _draw_memory(rng: random.Random) -> float:
    c, k, scale = 11.652, 0.221, 107.083
    return min(3_008.0, float(scale * ((1 - rng.random()) ** (-1 / k) - 1) ** (1 / c)))


def arrivals(rng: random.Random, workload: Workload) -> Iterator[float]:
    gap_s = DAY_S / workload.per_day
    now = rng.random() * gap_s
    while now < DAY_S:
        if workload.pattern == "timer":
            yield now
            now += gap_s
        elif workload.pattern == "poisson":
            yield now
            now += rng.expovariate(1 / gap_s)
        else:
            size = rng.randint(2, 20)
            at = now
            for _ in range(size):
                yield at
                at += rng.expovariate(1 / min(gap_s / 20, 5.0))
            now = at + rng.expovariate(1 / (gap_s * size))


def draw_day(seed: int) -> tuple[list[Workload], list[tuple[float, int]]]:
    rng = random.Random(seed)
    workloads = draw_workloads(rng)
    day = [(at, number) for number, workload in enumerate(workloads) for at in arrivals(rng, workload) if at < DAY_S]
    return workloads, sorted(day)


class Replay:
    """What the dispatcher does with a pool, without anything that takes time."""

    def __init__(self, keep_alive: KeepAlive, worth: Worth, *, cap_mb: float = math.inf) -> None:
        self.tally = Tally()
        self._pool: IdlePool[Made, Workload] = IdlePool(keep_alive, worth)
        self._cap_mb = cap_mb
        self._used_mb = 0.0
        self._ends: list[tuple[float, int, Made]] = []
        self._numbers = itertools.count()

    def run(self, workloads: list[Workload], day: list[tuple[float, int]]) -> Tally:
        for at, number in day:
            self._advance(at)
            self._arrive(workloads[number], at)
        self._advance(DAY_S)
        while (made := self._pool.evict()) is not None:
            self._give_up(made, DAY_S)
        for _, _, made in self._ends:
            self._give_up(made, DAY_S)
        return self.tally

    def _arrive(self, workload: Workload, now: float) -> None:
        self.tally.invocations += 1
        made = self._pool.begin(workload.key, now)
        run_s = workload.run_s
        if made is None:
            self.tally.cold += 1
            self.tally.cold_ms += workload.init_ms
            run_s += workload.init_ms / 1000
            made = self._make(workload, now)
        heapq.heappush(self._ends, (now + run_s, next(self._numbers), made))

    def _advance(self, until: float) -> None:
        while True:
            end_at = self._ends[0][0] if self._ends else math.inf
            at = min(end_at, self._pool.due_at)
            if at > until:
                return
            if end_at <= self._pool.due_at:
                _, _, made = heapq.heappop(self._ends)
                self._pool.end(made.of.key, at)
                self._pool.add(made, made.of.key, made.of, at, _price(made.of))
                continue
            due = self._pool.take_due(at)
            for made in due.expired:
                self._give_up(made, at)
            for workload in due.ahead:
                if self._used_mb + workload.size_mb <= self._cap_mb:
                    self.tally.ahead += 1
                    made = self._make(workload, at)
                    self._pool.add_ahead(made, workload.key, at, _price(workload))

    def _make(self, workload: Workload, now: float) -> Made:
        while self._used_mb + workload.size_mb > self._cap_mb:
            evicted = self._pool.evict()
            if evicted is None:
                break
            self._give_up(evicted, now)
        self._used_mb += workload.size_mb
        return Made(workload, now)

    def _give_up(self, made: Made, now: float) -> None:
        self._used_mb -= made.of.size_mb
        self.tally.mb_s += made.of.size_mb * (now - made.since)


def _price(workload: Workload) -> Price:
    return Price(workload.init_ms, workload.size_mb)


def show(name: str, tally: Tally, floor: Tally) -> None:
    print(
        f"{name:32} {tally.cold:8,} cold ({tally.cold_share:7.3%})  {tally.cold_ms / 1000:9,.0f} s waited  "
        f"{tally.mb_s / 1e6:8.2f} M MB s ({tally.mb_s / floor.mb_s:5.2f})  {tally.ahead:6,} made ahead"
    )


def main() -> None:
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    workloads, day = draw_day(seed)
    print(f"{len(workloads)} functions, {len(day):,} invocations in a day, seed {seed}")
    print("no memory cap; memory-time beside fixed 600 s:")
    floor = Replay(FixedKeepAlive(600), GreedyDual()).run(workloads, day)
    for keep_s in FIXED_S:
        show(f"  fixed {keep_s} s", Replay(FixedKeepAlive(keep_s), GreedyDual()).run(workloads, day), floor)
    adaptive = Replay(AdaptiveKeepAlive(600), GreedyDual()).run(workloads, day)
    show("  adaptive, else 600 s", adaptive, floor)
    for pattern in ("timer", "poisson", "burst"):
        some = [entry for entry in day if workloads[entry[1]].pattern == pattern]
        fixed_of = Replay(FixedKeepAlive(600), GreedyDual()).run(workloads, some)
        show(f"    {pattern}: fixed 600 s", fixed_of, fixed_of)
        show(f"    {pattern}: adaptive", Replay(AdaptiveKeepAlive(600), GreedyDual()).run(workloads, some), fixed_of)
    need_mb = sum(workload.size_mb for workload in workloads)
    print("under a memory cap, kept for a day unless evicted:")
    for share in CAP_SHARES:
        cap_mb = need_mb * share
        oldest = Replay(FixedKeepAlive(DAY_S), OldestFirst(), cap_mb=cap_mb).run(workloads, day)
        dual = Replay(FixedKeepAlive(DAY_S), GreedyDual(), cap_mb=cap_mb).run(workloads, day)
        show(f"  {cap_mb:,.0f} MB, least recently used", oldest, oldest)
        show(f"  {cap_mb:,.0f} MB, greedy-dual", dual, oldest)
    kept = adaptive.cold < floor.cold and adaptive.mb_s <= floor.mb_s
    print("adaptive has fewer cold starts at no more memory-time:", "yes" if kept else "NO")
    sys.exit(0 if kept else 1)


if __name__ == "__main__":
    main()
