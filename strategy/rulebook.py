"""The breakers of venue health, listed once. A business lists them among its own."""

from __future__ import annotations

from strategy.breakers.api_errors import api_errors_breaker
from strategy.breakers.outage import outage_breaker
from strategy.breakers.stale_data import stale_data_breaker
from strategy.breakers.venue_mode import venue_mode_breaker

CALL_BREAKERS = (outage_breaker, api_errors_breaker)
"""Those that need nothing but the counts of failed calls, so that no venue is asked for them."""
HEALTH_BREAKERS = (*CALL_BREAKERS, venue_mode_breaker, stale_data_breaker)
