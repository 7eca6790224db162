"""Names that other programs have given to settings of managed accounts, taken beside our own: PORT, OSTIUM_SERVICE_URL, ..."""

from __future__ import annotations

import os
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_settings import PydanticBaseSettingsSource, SettingsError


def _per_cent(text: str) -> str:
    """A share in per cent, as a fraction. Raises SettingsError: less than one per cent is taken for a fraction by mistake."""
    try:
        value = Decimal(text)
    except InvalidOperation:
        value = Decimal("NaN")
    if not value.is_finite() or 0 < value < 1 or not 0 <= value <= 50:
        raise SettingsError(
            "OSTIUM_PROFIT_SHARE is in per cent, 0 or from 1 to 50: 10 is a tenth of the profit"
        )
    return str(value / 100)


def _as_it_is(text: str) -> str:
    return text


NAMES: dict[str, tuple[str, str, Callable[[str], str]]] = {
    "OSTIUM_SERVICE_URL": ("service", "url", _as_it_is),
    "PORT": ("service", "port", _as_it_is),
    "OSTIUM_PLATFORM_WALLET": ("collector", "platform_wallet", _as_it_is),
    "OSTIUM_PROFIT_SHARE": ("collector", "share", _per_cent),
    "OSTIUM_FEE_MODEL": ("collector", "fee_model", _as_it_is),
}
"""By the variable's name: section, field, and what the text means there."""


class PlainNames(PydanticBaseSettingsSource):
    """Reads them. One that is empty is not set."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Not used: whole sections are given at once."""
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for variable, (section, name, meaning) in NAMES.items():
            if text := os.environ.get(variable, "").strip():
                found.setdefault(section, {})[name] = meaning(text)
        return found
