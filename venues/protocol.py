"""What tasks need of a venue that can hold a leg. Every venue folder implements this in its `venue.py`."""

from __future__ import annotations

from typing import Protocol

from evenkeel.legs import Capabilities, LegView
from evenkeel.types import Built, IntentSpec, Outcome, Receipt, Signed, VenueName


class LegVenue(Protocol):
    """Build, sign, send, and ask. Only `send` and `resend` put anything on the wire that moves money.

    * `build` and `sign` may raise `Retryable` or `VenueRefused`; nothing has happened then.
    * `send` and `resend` never raise for transport reasons: they answer Confirmed, Rejected or Unknown.
    * `find` answers Confirmed with the receipt, Rejected with the proof that the attempt is dead, or Unknown. It accepts a
      `Signed` whose `wire` is None (after a restart, only the stored key is left).
    * `resend` puts the *same bytes* on the wire again; Unknown where they are no longer known.
    """

    name: VenueName
    capabilities: Capabilities

    async def build(self, intent: IntentSpec) -> Built: ...

    async def sign(self, intent: IntentSpec, built: Built) -> Signed: ...

    async def send(self, intent: IntentSpec, signed: Signed) -> Outcome[Receipt]: ...

    async def resend(self, intent: IntentSpec, signed: Signed) -> Outcome[Receipt]: ...

    async def find(self, intent: IntentSpec, signed: Signed) -> Outcome[Receipt]: ...

    async def legs(self) -> list[LegView]:
        """Return every leg that this account holds on the venue now, ours or not."""
        ...
