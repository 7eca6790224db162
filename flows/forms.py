"""What a person fills in to start a flow."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict


def _title(name: str, _: Any) -> str:
    """How a field is called in a form. Of a list of choices pydantic itself gives none, and Prefect shows "Field"."""
    return name.replace("_", " ").capitalize().replace("usd", "USD")


class Form(BaseModel):
    """The parameters of a flow. A field that it does not have is refused: a misspelt one would leave its default to act."""

    model_config = ConfigDict(extra="forbid", field_title_generator=_title)
