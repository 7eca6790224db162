"""Several accounts on one ledger: whose keys act for each."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import field_validator, model_validator

from evenkeel.errors import OperatorError
from evenkeel.settings.section import Section
from evenkeel.settings.signers import KeySource

MOST_ACCOUNTS = 100


class FleetAccount(Section):
    """One account of the fleet: its Hyperliquid account, and the keys of that account's agent and of its own wallet, each in
    an encrypted file or in KMS.
    """

    name: str
    """By which commands, alerts and pauses name it."""
    hyperliquid_account: str
    hyperliquid: KeySource
    solana: KeySource

    @field_validator("name")
    @classmethod
    def _is_name(cls, value: str) -> str:
        if not re.fullmatch(r"[a-z][a-z0-9-]{0,30}", value):
            raise ValueError("must be 1 to 31 of a-z, 0-9 and -, the first a letter")
        return value

    @field_validator("hyperliquid_account")
    @classmethod
    def _is_address(cls, value: str) -> str:
        if not re.fullmatch(r"0x[0-9a-fA-F]{40}", value):
            raise ValueError("must be 0x followed by 40 hex digits")
        return value.lower()

    @model_validator(mode="after")
    def _has_keys(self) -> FleetAccount:
        for chain in ("hyperliquid", "solana"):
            source: KeySource = getattr(self, chain)
            if not source.keystore_file and not source.kms_key_id:
                raise ValueError(f"needs {chain}.keystore_file or {chain}.kms_key_id: one key an account")
        return self


def check_fleet(fleet: Sequence[FleetAccount], single: dict[str, Any]) -> None:
    """Raise ValueError where two accounts are one, or where the key of a single account stands beside the fleet. `single`: the
    settings of a single account by name.
    """
    if not fleet:
        return
    if len(fleet) > MOST_ACCOUNTS:
        raise ValueError(
            f"fleet has {len(fleet)} accounts, at most {MOST_ACCOUNTS} are watched by one ledger"
        )
    if set_too := [name for name, value in single.items() if value]:
        raise ValueError(
            f"{', '.join(set_too)} is of a single account: with [[fleet]] each account names its own"
        )
    for what, values in (
        ("name", [one.name for one in fleet]),
        ("hyperliquid_account", [one.hyperliquid_account for one in fleet]),
        ("hyperliquid key", [_place(one.hyperliquid) for one in fleet]),
        ("solana key", [_place(one.solana) for one in fleet]),
    ):
        if twice := sorted({value for value in values if values.count(value) > 1}):
            raise ValueError(f"two accounts of the fleet have one {what} ({twice[0]}): each needs its own")


def account_named(fleet: Sequence[FleetAccount], name: str) -> FleetAccount:
    """The account of this name. Raises OperatorError, naming all, where there is none."""
    found = next((one for one in fleet if one.name == name), None)
    if found is None:
        names = ", ".join(one.name for one in fleet)
        raise OperatorError(
            f"no account is named {name!r}; the fleet has {names}"
            if fleet
            else f"no account is named {name!r}: the settings are of a single account, without [[fleet]]"
        )
    return found


def _place(source: KeySource) -> str:
    return source.kms_key_id or str(Path(str(source.keystore_file)).expanduser())
