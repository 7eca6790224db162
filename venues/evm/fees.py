"""What a transaction may cost: caps of the settings, a fee by the chain's base fee, a dearer one for what is stuck."""

from __future__ import annotations

from dataclasses import dataclass

from evenkeel.errors import Retryable

GWEI = 10**9
STEP_TENTHS = 12
"""A replacement pays so many tenths of both fees: nodes ask for 11 (geth's price bump of 10 %)."""


@dataclass(frozen=True, slots=True)
class FeeCaps:
    """Wei a unit of gas: the most that is ever offered, and the least that goes to who makes the block."""

    most_wei: int
    tip_wei: int = 0


@dataclass(frozen=True, slots=True)
class Fee:
    """Wei a unit of gas, as it is signed."""

    tip_wei: int
    max_wei: int


def fee_for(base_wei: int, caps: FeeCaps) -> Fee:
    """Return twice the base fee and the tip, at most the cap: room for six full blocks in a row (each adds an eighth). Raises
    Retryable where the base fee alone lies above the cap.
    """
    if base_wei + caps.tip_wei > caps.most_wei:
        raise Retryable(
            f"gas costs {(base_wei + caps.tip_wei) / GWEI:.3f} gwei now, above the cap of {caps.most_wei / GWEI:.3f} gwei: "
            "wait, or raise the cap"
        )
    return Fee(caps.tip_wei, min(2 * base_wei + caps.tip_wei, caps.most_wei))


def dearer_fee(paid: Fee, base_wei: int, caps: FeeCaps) -> Fee | None:
    """Return what a replacement at the same nonce has to offer; None where the cap does not allow it."""
    tip = max(paid.tip_wei * STEP_TENTHS // 10 + 1, caps.tip_wei)
    most = max(paid.max_wei * STEP_TENTHS // 10 + 1, 2 * base_wei + tip)
    least = max(paid.max_wei * STEP_TENTHS // 10 + 1, base_wei + tip)
    if least > caps.most_wei:
        return None
    return Fee(tip, min(most, caps.most_wei))
