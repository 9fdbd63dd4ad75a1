"""An account's slots where several processes take them.

Reserved slots need no sharing: one process is the home of a function. The others' count is in the ledger, which is
asked and changed under its lock, so that the check and the count are one step for all processes.
"""

from __future__ import annotations

from collections.abc import Mapping

from lambent.dataplane.dispatch.admission import AccountAdmission
from lambent.dataplane.dispatch.ledger import Ledger


class SharedAdmission(AccountAdmission):
    def __init__(self, limit: int, account: str, ledger: Ledger) -> None:
        super().__init__(limit)
        self._ledger = ledger
        self._row = ledger.open_row(account)
        self._ticket = 0
        ledger.on_room(self._look_again)

    def set_limit(self, limit: int) -> None:
        with self._ledger:
            super().set_limit(limit)

    def set_reserved(self, function: str, reserved: int | None) -> None:
        with self._ledger:
            super().set_reserved(function, reserved)
            self._ledger.set_taken(self._row, self._shared_running)
            self._ledger.wake_first(self._row)

    def set_provisioned(self, function: str, shares: Mapping[str, int]) -> None:
        with self._ledger:
            super().set_provisioned(function, shares)
            self._ledger.wake_first(self._row)

    def take_provisioned(self, share_id: str) -> bool:
        with self._ledger:
            return super().take_provisioned(share_id)

    def give_back_provisioned(self, share_id: str) -> None:
        with self._ledger:
            super().give_back_provisioned(share_id)
            self._ledger.wake_first(self._row)

    def take(self, function: str) -> None:
        if function in self._reserved:
            super().take(function)
            return
        with self._ledger:
            super().take(function)

    def give_back(self, function: str) -> None:
        if function in self._reserved:
            super().give_back(function)
            return
        with self._ledger:
            super().give_back(function)
            self._ledger.wake_first(self._row)

    def _has_room(self, function: str) -> bool:
        if function in self._reserved:
            return super()._has_room(function)
        before_us = self._ledger.first_elsewhere(self._row)
        queue = self._waiting.get("")
        if before_us and not (queue and queue[0].ticket < before_us):
            return False
        return self._shared_running + self._ledger.taken_elsewhere(self._row) < self._shared_slots

    def _is_covered(self, function: str) -> bool:
        if function in self._reserved:
            return super()._is_covered(function)
        return self._shared_running + self._ledger.taken_elsewhere(self._row) <= self._shared_slots

    def _charge(self, function: str, change: int) -> None:
        super()._charge(function, change)
        if function not in self._reserved:
            self._ledger.set_taken(self._row, self._shared_running)

    def _admit_waiting(self, group: str) -> None:
        if group:
            super()._admit_waiting(group)
            return
        with self._ledger:
            before = self._ticket
            # Before the look: what another gives back from now on wakes us.
            self._set_ticket()
            super()._admit_waiting(group)
            self._set_ticket()
            if self._ticket != before:
                # Whoever is first now may find room that was held for this process.
                self._ledger.wake_first(self._row)

    def _new_ticket(self) -> int:
        with self._ledger:
            return self._ledger.new_ticket()

    def _note_queue(self, group: str) -> None:
        if not group:
            self._admit_waiting(group)

    def _set_ticket(self) -> None:
        queue = self._waiting.get("")
        self._ticket = queue[0].ticket if queue else 0
        self._ledger.set_ticket(self._row, self._ticket)

    def _look_again(self) -> None:
        if self._waiting.get(""):
            self._admit_waiting("")
