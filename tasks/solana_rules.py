"""What may be signed on Solana, from settings."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from solders.pubkey import Pubkey

from evenkeel.errors import OperatorError
from evenkeel.settings.settings import Settings
from venues.solana.routes.table import table_with
from venues.solana.rules.common import Rules

log = logging.getLogger("evenkeel.routes")


def signing_rules(settings: Settings) -> Rules:
    """The validator's limits. OperatorError for an address that is no public key, or a file of routes that is none."""
    safety = settings.safety
    return Rules(
        fee_cap_lamports=settings.limits.max_fee_lamports,
        exit_fee_cap_lamports=settings.limits.max_fee_emergency_lamports,
        tip_cap_lamports=safety.tip_cap_lamports,
        rent_cap_lamports=safety.rent_cap_lamports,
        router_fee_cap_bps=safety.router_fee_cap_bps,
        price_tolerance=safety.entry_price_tolerance,
        exit_price_tolerance=safety.exit_price_tolerance,
        exit_lst_tolerance=safety.exit_lst_tolerance,
        cpi_programs=_keys("allowed_programs", safety.allowed_programs),
        fee_accounts=_keys("fee_accounts", safety.fee_accounts),
        routes=table_with(safety.routes_file),
        banks=_keys("banks", safety.banks),
        withdrawal=next(iter(_keys("withdrawal_solana", (safety.withdrawal_solana,))), None),
    )


def _keys(name: str, texts: tuple[str, ...]) -> frozenset[Pubkey]:
    try:
        return frozenset(Pubkey.from_string(text) for text in texts if text)
    except ValueError as error:
        raise OperatorError(f"safety.{name} holds an address that is no public key: {error}") from None


def rules_as_they_stand(settings: Settings) -> Callable[[], Rules]:
    """Return what gives the validator's limits at each judgement: additions to the routes count without a restart.

    Raises OperatorError where the file of routes cannot be used now. One that is damaged later changes nothing.
    """
    path, rules = settings.safety.routes_file, signing_rules(settings)
    seen = _stamp(path)

    def now() -> Rules:
        nonlocal rules, seen
        found = _stamp(path)
        if found != seen:
            seen = found
            try:
                rules = signing_rules(settings)
            except OperatorError as error:
                log.error("the routes stay as they were: %s", error)
        return rules

    return now


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size
