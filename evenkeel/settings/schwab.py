"""The account at Schwab: its address, its app, and where the keys are."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, field_validator

from evenkeel.settings.section import Section


class SchwabAccount(Section):
    """One login at Schwab. The app's key and secret come from EVENKEEL_SCHWAB_KEY and EVENKEEL_SCHWAB_SECRET, the key that
    seals its tokens in the ledger from EVENKEEL_TOKEN_KEY, or each from a file.
    """

    url: str = "https://api.schwabapi.com"
    redirect_uri: str = "https://127.0.0.1"
    """As it is registered with the app."""
    account: str = Field(default="", pattern=r"^[0-9]{0,16}$")
    """The account's number or the end of it; empty: the only one of the login."""
    timeout_s: float = Field(default=30.0, gt=0, le=50)
    requests_per_minute: float = Field(default=110.0, gt=0, le=100_000)
    key_file: Path | None = None
    secret_file: Path | None = None
    token_key_file: Path | None = None

    @field_validator("redirect_uri")
    @classmethod
    def _is_callback(cls, value: str) -> str:
        if not value.startswith("https://"):
            raise ValueError("must be the https:// address that is registered with the app")
        return value.rstrip("/")
