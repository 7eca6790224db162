"""What a person fills in to start a flow."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, PlainSerializer, WithJsonSchema

NumberField = Annotated[
    Decimal,
    PlainSerializer(float, return_type=float, when_used="json"),
    WithJsonSchema({"type": "number", "exclusiveMinimum": 0}),
]
"""A number above zero: of dollars, of coins, a share."""


def _title(name: str, _: Any) -> str:
    """How a field is called in a form. Of a list of choices pydantic itself gives none, and Prefect shows "Field"."""
    return name.replace("_", " ").capitalize().replace("usd", "USD")


class Form(BaseModel):
    """The parameters of a flow. A field that it does not have is refused: a misspelt one would leave its default to act."""

    model_config = ConfigDict(extra="forbid", field_title_generator=_title)
