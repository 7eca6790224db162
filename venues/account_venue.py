"""What managed accounts ask of a venue. An adapter signs for users' accounts with a key that can trade, and cannot move money.

| member | required of | answers |
| --- | --- | --- |
| `name`, `build`, `sign`, `send`, `find`, `resend` | every venue | as `OrderVenue` has them: an intent happens exactly once |
| `capabilities` | every venue | what of the rest it can do, asked before a decision |
| intents `stop` | where `native_stops` | an order that stands at the venue, placed or moved, never loosened |
| intents `open` | where `opens` | a trade in the user's name, within what he allows |
| intents `close` | every venue | the whole trade, or a share of it where `closes_partly` |
| trades that users opened are guarded | where `stops_for_users` | the agent sets their stops; elsewhere they are only booked |
| intents `pull` | where `collects` | a charge that is pulled once; elsewhere charges are a STATEMENT, and nobody pulls them |

| venue | native_stops | opens | closes_partly | stops_for_users | collects |
| --- | --- | --- | --- | --- | --- |
| Ostium | yes | yes | yes | no | yes, out of an allowance |
| Hyperliquid | yes | no | yes | yes | no: no agent can move funds |
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from evenkeel.types import AccountCapabilities
from venues.protocol import OrderVenue


@runtime_checkable
class AccountVenue(OrderVenue, Protocol):
    """A venue that trades for users by their leave."""

    capabilities: AccountCapabilities
