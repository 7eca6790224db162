"""What a person fills in to start a flow."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Form(BaseModel):
    """The parameters of a flow. A field that it does not have is refused: a misspelt one would leave its default to act."""

    model_config = ConfigDict(extra="forbid")
