"""How far the server may forget its log: past transactions of which every change was handled, and no further.

Knows no connection and no clock. It is told what came and what was handled, and answers the position to confirm.
"""

from __future__ import annotations

import dataclasses
from collections import deque


@dataclasses.dataclass(slots=True)
class _Transaction:
    final_lsn: int
    changes: int = 0
    end_lsn: int | None = None
    """Known with its commit."""


class Positions:
    def __init__(self, confirmed_lsn: int, handled: tuple[int, int] = (0, -1)) -> None:
        """`handled`: (final position of the transaction, index of the change) up to which all was handled before."""
        self._transactions: deque[_Transaction] = deque()
        self._handled = handled
        self.confirmed_lsn = confirmed_lsn

    @property
    def handled(self) -> tuple[int, int]:
        return self._handled

    def begin(self, final_lsn: int) -> None:
        self._transactions.append(_Transaction(final_lsn))

    def count_change(self) -> int | None:
        """The change's index in its transaction, or None where it was handled before the connection was."""
        transaction = self._transactions[-1]
        index = transaction.changes
        transaction.changes += 1
        return None if (transaction.final_lsn, index) <= self._handled else index

    def commit(self, end_lsn: int) -> None:
        self._transactions[-1].end_lsn = end_lsn
        self._advance()

    def handle(self, final_lsn: int, index: int) -> None:
        self._handled = max(self._handled, (final_lsn, index))
        self._advance()

    def hear(self, sent_lsn: int) -> None:
        """The server has nothing for us up to here. Without this a slot on quiet tables would keep the whole log."""
        if not self._transactions:
            self.confirmed_lsn = max(self.confirmed_lsn, sent_lsn)

    def _advance(self) -> None:
        while self._transactions:
            first = self._transactions[0]
            if first.end_lsn is None or (first.changes and (first.final_lsn, first.changes - 1) > self._handled):
                return
            self.confirmed_lsn = max(self.confirmed_lsn, first.end_lsn)
            self._transactions.popleft()
