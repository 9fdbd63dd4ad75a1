# The hybrid histogram policy of "Serverless in the Wild" (Shahrad et al., USENIX ATC 2020), section 4.2.
#
# Rule 1: what was learnt is used only where it is representative: enough samples, most of them within the histogram,
#         and concentrated in some bins. Otherwise the fixed time holds, where the paper has ARIMA or four hours.
# Rule 2: an environment is made ahead only where hardly any arrival comes earlier.
# Rule 3: what a version was scaled out to is kept for the fixed time: idle times say when it is wanted, not how wide.
# Rule 4: the percentiles are looked up again only after enough was added to move them, so that the warm path
#         does not walk 240 bins.
from __future__ import annotations

import weakref

from lambent.dataplane.dispatch.keepalive.histogram import BIN_S, IdleTimes
from lambent.dataplane.dispatch.keepalive.policy import Plan

HEAD_PERCENT = 5.0
TAIL_PERCENT = 99.0
MARGIN = 0.10
MIN_SAMPLES = 5
MIN_VARIATION = 2.0
OUTSIDE_SHARE = 0.5
MAX_EXPENSE = 1.25
"""The memory-time of an idle period that the plan may cost, beside what the fixed time would. The paper has no such
bound and buys its last percents with environments that wait for hours."""
RECHECK_SHARE = 1 / 16
"""A plan stands until the samples grew by this share."""


class AdaptiveKeepAlive:
    learns = True

    def __init__(self, fallback_s: float) -> None:
        self.further = Plan(0.0, fallback_s)
        self._plans: weakref.WeakKeyDictionary[IdleTimes, tuple[int, Plan]] = weakref.WeakKeyDictionary()

    def plan(self, idle_times: IdleTimes) -> Plan:
        known = self._plans.get(idle_times)
        if known is not None and idle_times.changes < known[0]:
            return known[1]
        plan = self._draw_up(idle_times)
        good_until = idle_times.changes + 1 + int(min(idle_times.changes, idle_times.total) * RECHECK_SHARE)
        self._plans[idle_times] = good_until, plan
        return plan

    def _draw_up(self, idle_times: IdleTimes) -> Plan:
        samples = idle_times.total + idle_times.outside
        if samples < MIN_SAMPLES or idle_times.outside > samples * OUTSIDE_SHARE:
            return self.further
        if idle_times.variation() < MIN_VARIATION:
            return self.further
        head, tail = idle_times.percentile_bin(HEAD_PERCENT), idle_times.percentile_bin(TAIL_PERCENT)
        budget_s = idle_times.held_s(self.further.keep_until_s) * MAX_EXPENSE
        affordable = idle_times.last_bin_within(head, tail, budget_s)
        if affordable < head or (affordable < tail and not head):
            return self.further
        return Plan(head * BIN_S * (1 - MARGIN), (affordable + 1) * BIN_S * (1 + MARGIN))
