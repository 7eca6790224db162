"""Mode of the perpetuals account: it says where the margin stands, and changes what every figure of it means."""

from __future__ import annotations

from strategy.carry.limits import CarryLimits
from strategy.carry.needs.state import NeedState, critical, fine, unknown, warned
from strategy.carry.readings import NeedReadings
from strategy.decisions import Judged
from strategy.rules import rule

NAME = "account_mode"
PLAIN = {"default", "disabled"}
"""Two words of the venue for one thing: never set, and set so."""


@rule(NAME)
def account_mode(readings: NeedReadings, limits: CarryLimits) -> Judged[NeedState]:
    """Critical for a mode whose equity cannot be read whole; a warning where it changed since the entry."""
    r = readings
    if r.account_mode is None:
        return unknown(NAME, "the account's mode on Hyperliquid")
    if not r.account_mode_readable:
        reason = (
            f"the Hyperliquid account is in mode {r.account_mode!r}, in which its equity cannot be read whole"
        )
        return critical(
            NAME, reason, "set mode 'disabled' or 'unifiedAccount' with the account's own key; no agent can"
        )
    at_entry = r.account_mode_at_entry
    if at_entry not in (None, r.account_mode) and {at_entry, r.account_mode} != PLAIN:
        reason = (
            f"the Hyperliquid account's mode was switched from {r.account_mode_at_entry!r} to {r.account_mode!r} "
            "while the position is open; its equity is read accordingly"
        )
        return warned(NAME, reason, "find out who did; nothing has to be closed for it", phase=r.account_mode)
    return fine(NAME, f"mode {r.account_mode!r}")
