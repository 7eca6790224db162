"""What every section of the settings has in common: no unknown name, no change after loading, checked URLs."""

from __future__ import annotations

from urllib.parse import urlparse

from pydantic import BaseModel, ConfigDict, field_validator


class Section(BaseModel):
    """One table of the TOML file. Raises ValidationError for a name it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    @field_validator(
        *("url", "rpc_url", "second_rpc_url", "world_url", "api_url", "token_url", "kms_endpoint_url"),
        check_fields=False,
    )
    @classmethod
    def _is_url(cls, value: str) -> str:
        parsed = urlparse(value)
        if value and (parsed.scheme not in ("http", "https") or not parsed.netloc):
            raise ValueError("must be an http:// or https:// URL")
        return value.rstrip("/")

    @field_validator("ws_url", check_fields=False)
    @classmethod
    def _is_stream(cls, value: str) -> str:
        parsed = urlparse(value)
        if value and (parsed.scheme not in ("ws", "wss") or not parsed.netloc):
            raise ValueError("must be a ws:// or wss:// URL")
        return value
