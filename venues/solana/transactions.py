"""From approved messages to signed transactions: the only way to a Solana signature."""

from __future__ import annotations

from solders.transaction import VersionedTransaction

from evenkeel.errors import VenueRefused
from venues.solana.keys import SolanaSigner
from venues.solana.rules.approval import Approved, Refused


class UnsafeBuild(VenueRefused):
    """A build that we were asked to sign breaks a rule; nothing was signed. `rule` names it."""

    def __init__(self, reason: str, rule: str = "build") -> None:
        super().__init__("our signing rules", reason)
        self.rule = rule

    @classmethod
    def of(cls, refused: Refused) -> UnsafeBuild:
        return cls(str(refused), refused.rule)


def sign_approved(approved: Approved, signer: SolanaSigner) -> VersionedTransaction:
    """Return the transaction with our signature in slot 0 and all others kept. Raises `UnsafeBuild` if it then does not
    verify.
    """
    signed = approved.with_signature(signer.sign(approved))
    if not all(signed.verify_with_results()):
        raise UnsafeBuild("it does not verify after signing", "signature")
    return signed
