"""An account of value that is independent of the validator's own rules and of their figures."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

from solders.pubkey import Pubkey
from solders.system_program import ID as SYSTEM

from tests.attacks.mutations import Build
from tests.attacks.programs import Permissive
from tests.attacks.scene import Scene
from twins.asgard.venue import FEE_OWNER, LIVE_PROTOCOLS, POOL_OWNER, TIP_ACCOUNTS, USDC_MINT, WSOL_MINT
from twins.solana import tokens
from venues.solana.rules.common import Expectation

GIVE_AWAY = Decimal("0.03")
"""Of what is swapped, besides the slippage that the order asks for: on the way in, and on an ordinary way out."""
LAMPORTS = 20_000_000 + 1_000_000 + 60_000_000
"""Most that fees, tips and rents of a build may take."""


@dataclass
class Auditor:
    """Plays an approved build through on programs that obey anybody, and says what we would have lost."""

    scene: Scene
    world: Permissive
    price: Decimal = Decimal(200)
    allowed: dict[Pubkey, dict[str, tuple[int, int]]] = field(default_factory=dict)
    """By position and operation: the most that may be withdrawn of it, the least that is repaid then."""
    executed: int = 0
    """Transactions that ran to their end: only these can prove anything."""

    def harm(self, build: Build, expectation: Expectation) -> str | None:
        """None where nobody but tips, fees, pools and the lender gains, and we lose no more than the rules promise.

        Each transaction is played on the state before the build: what fails moves nothing.
        """
        wallet = self.scene.wallet
        for raw in build:
            self.world.moves.clear()
            done = self.scene.chain.simulate(raw).execution
            if done.err is not None or not done.processed:
                continue
            self.executed += 1
            worth = Decimal(0)
            swapped = Decimal(0)
            for key, account in done.after.items():
                before = done.before.get(key)
                was, now = before.lamports if before else 0, account.lamports if account else 0
                held, holds = _token(before), _token(account)
                if key == wallet:
                    if account is None or account.owner != SYSTEM or bytes(account.data):
                        return "the wallet itself is gone"
                    worth += Decimal(now - was).scaleb(-9) * self.price
                    continue
                if held and held[0] == wallet and (not holds or holds[0] != wallet) and account is not None:
                    return f"our token account {key} changed hands"
                if holds and holds[0] == wallet and (holds[3] or holds[4]):
                    return f"our token account {key} has a delegate or a close authority"
                for state, sign in ((held, -1), (holds, 1)):
                    if state and state[0] == wallet:
                        worth += sign * self._usd(state[1], state[2])
                grown = holds[2] - (held[2] if held else 0) if holds else 0
                if grown > 0 and holds and holds[0] not in self._known():
                    return f"{grown} base units of {holds[1]} reached {holds[0]}"
                if holds and holds[0] == POOL_OWNER and grown:
                    swapped += abs(self._usd(holds[1], grown))
                if not holds and now > was and key not in TIP_ACCOUNTS and key.is_on_curve():
                    return f"{now - was} lamports reached {key}"
            for owner, mint, into in self.world.moves:
                if owner != wallet:
                    return f"position of {owner} got {into} of {mint}"
                worth += self._usd(mint, into)
            bound = self._bound(swapped, expectation)
            if worth < -bound:
                return f"we lose {-worth:.2f} USD, at most {bound:.2f} are explained"
            if (beyond := self._beyond(expectation)) is not None:
                return beyond
        return None

    def _beyond(self, expectation: Expectation) -> str | None:
        """What a smaller way out did to the position beyond what its order implies."""
        limits = self.allowed.get(expectation.position or Pubkey.default(), {}).get(str(expectation.op))
        if limits is None:
            return None
        withdrawn = -sum(into for _, mint, into in self.world.moves if mint == WSOL_MINT and into < 0)
        repaid = sum(into for _, mint, into in self.world.moves if mint == USDC_MINT and into > 0)
        if withdrawn > limits[0] or (withdrawn and repaid < limits[1]):
            return f"{withdrawn} withdrawn and {repaid} repaid, at most {limits[0]} and at least {limits[1]} are implied"
        return None

    def _bound(self, swapped: Decimal, expectation: Expectation) -> Decimal:
        share = GIVE_AWAY + Decimal(expectation.slippage_bps) / 10_000
        return Decimal(LAMPORTS).scaleb(-9) * self.price + swapped * share * Decimal("1.01") + 1

    def _known(self) -> set[Pubkey]:
        return {self.scene.wallet, POOL_OWNER, FEE_OWNER, *(one.authority for one in LIVE_PROTOCOLS)}

    def _usd(self, mint: Pubkey, amount: int) -> Decimal:
        if mint == USDC_MINT:
            return Decimal(amount).scaleb(-6)
        return Decimal(amount).scaleb(-9) * self.price if mint == WSOL_MINT else Decimal(0)


def _token(account: object) -> tuple[Pubkey, Pubkey, int, bool, bool] | None:
    """(owner, mint, amount, has delegate, has close authority) of a token account."""
    if account is None or not tokens.is_token_account(account):  # type: ignore[arg-type]
        return None
    state = tokens.read_token(account)  # type: ignore[arg-type]
    return (
        state.owner,
        state.mint,
        state.amount,
        state.delegate is not None,
        state.close_authority is not None,
    )
