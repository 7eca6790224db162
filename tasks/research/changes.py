"""What a back-test changes of its account, and when: at once, or with the orders of the position beside it."""

from __future__ import annotations

from collections.abc import Callable

from analytics.research.account import Account
from analytics.research.results import Run, Trade
from tasks.research.hedging import LeftOpen


class Changes:
    """Does what was decided, and writes each trade down with its cost."""

    def __init__(self, account: Account, run: Run) -> None:
        self._account, self._run = account, run
        self._left_open = LeftOpen()
        self._waiting: list[Callable[[int], None]] | None = None
        """What a tick has decided whose orders follow; None where what is decided is done at once."""

    @property
    def waits(self) -> bool:
        """Whether what is decided now is done later: one thing, and the next tick decides on the rest."""
        return self._waiting is not None

    def begin_tick(self, *, waits: bool) -> None:
        """What this tick decides is done with the orders that follow it, or at once."""
        self._waiting = [] if waits else None

    def carry_out(self, at_ms: int) -> None:
        """Do at its orders' moment what a tick has decided."""
        decided, self._waiting = self._waiting or [], None
        for do in decided:
            do(at_ms)

    def make(
        self,
        at_ms: int,
        kind: str,
        rule: str,
        reason: str,
        do: Callable[[], object],
        *,
        changes_long: bool = True,
    ) -> None:
        """Do something now, or with the orders of this tick where they follow."""

        def change(done_ms: int) -> None:
            before_usd = self._costs_usd()
            do()
            cost_usd = self._costs_usd() - before_usd
            self.note(done_ms, kind, rule, cost_usd, reason, changes_long=changes_long)

        if self._waiting is None:
            change(at_ms)
        elif not self._waiting:
            self._waiting.append(change)

    def note(
        self,
        at_ms: int,
        kind: str,
        rule: str,
        cost_usd: float,
        reason: str,
        *,
        changes_long: bool | None = True,
    ) -> None:
        """Write down a trade. `changes_long`: None for what a venue did."""
        self._run.trades.append(Trade(at_ms, kind, rule, self._account.long_usd, cost_usd, reason))
        self._left_open.traded(self._account, at_ms, self._run, changes_long)

    def _costs_usd(self) -> float:
        items = self._account.items
        return -(items["fees"] + items["slippage"] + items["gas"] + items["transfers"])
