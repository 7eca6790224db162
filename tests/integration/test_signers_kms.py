"""Both curves through a real boto3 client: secp256k1 against moto and a local KMS, Ed25519 against the local KMS."""

from __future__ import annotations

import builtins
import hashlib
import traceback
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from eth_account import Account
from eth_keys import keys as eth_keys
from moto import mock_aws
from moto.kms.utils import ECDSAPrivateKey
from solders.hash import Hash
from solders.keypair import Keypair
from solders.message import MessageV0, to_bytes_versioned
from solders.signature import Signature
from solders.system_program import TransferParams, transfer
from solders.transaction import VersionedTransaction

from evenkeel.errors import OperatorError, Retryable
from tests.kms_emulation import REGION, KmsEmulation, Refusal, kms_emulation
from venues.signers.kms import SECP256K1_ORDER, KmsEvmKey, KmsSolanaKey, kms_client

SECRET = bytes(range(33, 65))
SEED = bytes(range(1, 33))
PAIR = Keypair.from_seed(SEED)
ADDRESS = str(Account.from_key(SECRET).address).lower()


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Test credentials, and no file or metadata server of this machine."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere/config")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere/credentials")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for name in ("AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def kms() -> Iterator[KmsEmulation]:
    with kms_emulation() as served:
        served.add_secp256k1("desk", SECRET)
        served.add_ed25519("wallet", SEED)
        yield served


def client(kms: KmsEmulation) -> Any:
    return kms_client(REGION, kms.url, 2.0)


def recovers(key: KmsEvmKey, digest: bytes) -> bool:
    r, s, v = key.sign_digest(digest)
    assert v in (27, 28) and 0 < s <= SECP256K1_ORDER // 2
    found = eth_keys.Signature(vrs=(v - 27, r, s)).recover_public_key_from_msg_hash(digest)
    return bool(found.to_address() == key.address)


@pytest.fixture
def digests_in_moto(monkeypatch: pytest.MonkeyPatch) -> None:
    """moto says of itself that it does not implement MessageType DIGEST and hashes again: taught here, as AWS documents it."""

    def sign(self: ECDSAPrivateKey, message: bytes, signing_algorithm: str) -> bytes:
        assert signing_algorithm == "ECDSA_SHA_256" and len(message) == 32
        return bytes(self.private_key.sign(message, ec.ECDSA(utils.Prehashed(hashes.SHA256()))))

    monkeypatch.setattr(ECDSAPrivateKey, "sign", sign)


def test_a_kms_that_hashes_the_digest_again_is_not_believed() -> None:
    with mock_aws():
        aws = boto3.client("kms", region_name=REGION)
        made = aws.create_key(KeySpec="ECC_SECG_P256K1", KeyUsage="SIGN_VERIFY")["KeyMetadata"]["KeyId"]
        with pytest.raises(Retryable, match="does not recover"):
            KmsEvmKey(kms_client(REGION), made).sign_digest(bytes(32))


def test_secp256k1_against_moto(digests_in_moto: None) -> None:
    with mock_aws():
        aws = boto3.client("kms", region_name=REGION)
        made = aws.create_key(KeySpec="ECC_SECG_P256K1", KeyUsage="SIGN_VERIFY")["KeyMetadata"]["KeyId"]
        aws.create_alias(AliasName="alias/desk", TargetKeyId=made)
        key = KmsEvmKey(kms_client(REGION), "alias/desk")
        assert key.address.startswith("0x") and len(key.address) == 42
        assert KmsEvmKey(kms_client(REGION), made).address == key.address
        assert all(recovers(key, hashlib.sha256(bytes([n])).digest()) for n in range(30))
        other = aws.create_key(KeySpec="ECC_NIST_P256", KeyUsage="SIGN_VERIFY")["KeyMetadata"]["KeyId"]
        with pytest.raises(OperatorError, match="needed is ECC_SECG_P256K1"):
            KmsEvmKey(kms_client(REGION), other)
        with pytest.raises(OperatorError, match="NotFoundException"):
            KmsEvmKey(kms_client(REGION), "alias/none")
        with pytest.raises(OperatorError, match="needed is ECC_NIST_EDWARDS25519"):
            KmsSolanaKey(kms_client(REGION), made)


@pytest.mark.parametrize("high", [False, True])
def test_secp256k1_recovers_to_the_address_and_is_brought_to_low_s(kms: KmsEmulation, high: bool) -> None:
    kms.force_high_s = high
    key = KmsEvmKey(client(kms), "desk")
    assert key.address == ADDRESS and key.is_remote
    assert all(recovers(key, hashlib.sha256(bytes([n])).digest()) for n in range(30))
    asked = [one for what, one in kms.calls if what == "Sign"]
    assert {(one["MessageType"], one["SigningAlgorithm"]) for one in asked} == {("DIGEST", "ECDSA_SHA_256")}


def test_ed25519_signs_a_transaction_that_verifies(kms: KmsEmulation) -> None:
    key = KmsSolanaKey(client(kms), "wallet")
    assert key.pubkey == PAIR.pubkey() and key.is_remote
    pay = transfer(TransferParams(from_pubkey=key.pubkey, to_pubkey=Keypair().pubkey(), lamports=1))
    message = MessageV0.try_compile(key.pubkey, [pay], [], Hash.new_unique())
    signature = key.sign_message(to_bytes_versioned(message))
    assert VersionedTransaction.populate(message, [signature]).verify_with_results() == [True]
    assert signature == PAIR.sign_message(to_bytes_versioned(message))
    (asked,) = [one for what, one in kms.calls if what == "Sign"]
    assert (asked["MessageType"], asked["SigningAlgorithm"]) == ("RAW", "ED25519_SHA_512")


def test_a_message_beyond_the_limit_of_kms_is_not_sent(kms: KmsEmulation) -> None:
    key = KmsSolanaKey(client(kms), "wallet")
    assert isinstance(key.sign_message(bytes(4096)), Signature)
    with pytest.raises(OperatorError, match="at most 4096 bytes"):
        key.sign_message(bytes(4097))
    assert kms.signs("wallet") == 1


@pytest.mark.parametrize("mangle", ["flip", "cut"])
def test_a_signature_that_does_not_fit_is_never_used(kms: KmsEmulation, mangle: str) -> None:
    evm, sol = KmsEvmKey(client(kms), "desk"), KmsSolanaKey(client(kms), "wallet")
    kms.mangle = mangle
    with pytest.raises(Retryable):
        evm.sign_digest(bytes(32))
    with pytest.raises(Retryable, match="does not verify"):
        sol.sign_message(b"message")


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("ThrottlingException", 400, Retryable),
        ("KMSInternalException", 500, Retryable),
        ("DependencyTimeoutException", 503, Retryable),
        ("AccessDeniedException", 400, OperatorError),
        ("DisabledException", 400, OperatorError),
        ("KMSInvalidStateException", 400, OperatorError),
        ("ExpiredTokenException", 400, OperatorError),
    ],
)
def test_a_refusal_says_who_must_act(
    kms: KmsEmulation, code: str, status: int, kind: type[Exception]
) -> None:
    evm, sol = KmsEvmKey(client(kms), "desk"), KmsSolanaKey(client(kms), "wallet")
    for sign in (lambda: evm.sign_digest(bytes(32)), lambda: sol.sign_message(b"m")):
        kms.refuse_next = [Refusal(code, "for a test", status)] * 3
        with pytest.raises(kind, match=code) as caught:
            sign()
        assert "\n" not in str(caught.value) and type(caught.value) is kind
        kms.refuse_next = []


def test_a_short_throttle_is_retried(kms: KmsEmulation) -> None:
    key = KmsEvmKey(client(kms), "desk")
    kms.refuse_next = [Refusal("ThrottlingException", "once")]
    assert recovers(key, bytes(32))


def test_a_kms_that_is_gone_can_be_asked_again_later(kms: KmsEmulation) -> None:
    key = KmsEvmKey(client(kms), "desk")
    gone = kms_client(REGION, "http://127.0.0.1:9", 0.5)
    with pytest.raises(Retryable, match="does not answer GetPublicKey"):
        KmsEvmKey(gone, "desk")
    assert recovers(key, bytes(32))


def test_the_wrong_kind_of_key_is_refused_at_the_start(kms: KmsEmulation) -> None:
    with pytest.raises(OperatorError, match="needed is ECC_NIST_EDWARDS25519"):
        KmsSolanaKey(client(kms), "desk")
    with pytest.raises(OperatorError, match="needed is ECC_SECG_P256K1"):
        KmsEvmKey(client(kms), "wallet")
    kms.usage["desk"] = "KEY_AGREEMENT"
    with pytest.raises(OperatorError, match="for KEY_AGREEMENT"):
        KmsEvmKey(client(kms), "desk")


def test_an_ed25519_key_in_another_wrapping_is_refused(
    kms: KmsEmulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    aws = client(kms)
    real = aws.get_public_key
    for wrong in (b"\x30" + bytes(43), bytes(32), b""):
        monkeypatch.setattr(
            aws, "get_public_key", lambda wrong=wrong, **asked: real(**asked) | {"PublicKey": wrong}
        )
        with pytest.raises(OperatorError, match="RFC 8410"):
            KmsSolanaKey(aws, "wallet")


def test_without_the_extra_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.split(".")[0] in ("boto3", "botocore"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(OperatorError, match="extra `kms`") as caught:
        kms_client(REGION)
    assert "\n" not in str(caught.value)


def test_without_region_or_credentials_one_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OperatorError, match="region"):
        kms_client("")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name)
    with pytest.raises(OperatorError, match="no AWS credentials"):
        kms_client(REGION)


def test_a_kms_key_shows_its_public_name_alone(kms: KmsEmulation) -> None:
    for key, name in (
        (KmsEvmKey(client(kms), "desk"), ADDRESS),
        (KmsSolanaKey(client(kms), "wallet"), str(PAIR.pubkey())),
    ):
        assert name in repr(key) and "testing" not in repr(key)
        with pytest.raises(TypeError) as caught:
            key.__reduce_ex__(4)
        assert "testing" not in "".join(traceback.format_exception(caught.value))
