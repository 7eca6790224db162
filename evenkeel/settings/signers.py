"""Who signs: where each key is kept, and whether the account's own key is allowed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Self

from pydantic import Field, field_validator, model_validator

from evenkeel.settings.section import Section


class KeySource(Section):
    """Where a signing key is, if not in its environment variable or `key_file`: an encrypted keystore, or AWS KMS."""

    keystore_file: Path | None = None
    passphrase_file: Path | None = None
    """Of the keystore, where the passphrase is not in `EVENKEEL_HYPERLIQUID_PASSPHRASE` or `EVENKEEL_SOLANA_PASSPHRASE`."""
    kms_key_id: str = ""
    """Id, ARN or alias. Needs the extra `kms`."""

    @field_validator("kms_key_id")
    @classmethod
    def _is_no_key(cls, value: str) -> str:
        if re.fullmatch(r"(0x)?[0-9a-fA-F]{64}|[1-9A-HJ-NP-Za-km-z]{43,88}", value):
            raise ValueError("looks like a key itself; give its id, ARN or alias in KMS")
        return value

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.keystore_file and self.kms_key_id:
            raise ValueError("names a keystore_file and a kms_key_id: keep one")
        return self


class Signers(Section):
    """Who signs. The trading host needs an agent's key of the Hyperliquid account, never the account's own."""

    hyperliquid: KeySource = KeySource()
    solana: KeySource = KeySource()
    allow_master_key: bool = False
    """Trade with the account's own key, which could also withdraw, instead of an agent's."""
    kms_region: str = ""
    kms_endpoint_url: str = ""
    kms_timeout_s: float = Field(default=5.0, gt=0, le=30)
