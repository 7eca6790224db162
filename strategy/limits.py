"""The numbers that venue-health breakers are held against, whatever the business."""

from __future__ import annotations

from pydantic import Field

from evenkeel.types import Frozen


class HealthLimits(Frozen):
    """When a venue counts as well enough to begin something on it. A business's own hard limits extend these."""

    max_data_age_s: int = Field(default=90, gt=0, le=3600)
    outage_failures: int = Field(default=3, ge=1, le=100)
    outage_window_s: int = Field(default=15, gt=0, le=3600)
    """So close together must failed calls be to make an outage."""
    outage_cooldown_s: int = Field(default=60, ge=0, le=86_400)
    max_api_errors: int = Field(default=3, ge=0, le=10_000)
    api_error_window_s: int = Field(default=300, gt=0, le=86_400)
    """More than `max_api_errors` failed calls to one host within this time pause entries."""
