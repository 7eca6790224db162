"""Keys that never leave AWS KMS: secp256k1 for Hyperliquid, Ed25519 for Solana. Needs the extra `kms` (boto3).

KMS does not sign deterministically on secp256k1: a payload is signed once, stored, and sent again as it is stored.
API: AWS KMS API Reference, Sign and GetPublicKey.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ec import SECP256K1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key
from eth_keys import keys
from eth_keys.exceptions import BadSignature
from eth_keys.exceptions import ValidationError as KeysValidationError
from eth_utils import keccak
from solders.pubkey import Pubkey
from solders.signature import Signature

from evenkeel.errors import OperatorError, Retryable
from venues.signers.protocol import EvmSignature, Hidden

SECP256K1_ORDER = 0xFFFFFFFFFFFFFFFF_FFFFFFFFFFFFFFFE_BAAEDCE6AF48A03B_BFD25E8CD0364141
ED25519_SPKI_PREFIX = bytes.fromhex("302a300506032b6570032100")
"""RFC 8410: algorithm identifier and bit string of an Ed25519 public key; the 32 bytes after it are the key."""
MAX_RAW_BYTES = 4096
"""KMS signs a RAW message of at most so many bytes; a Solana transaction has at most 1232."""
_PASSES = (
    "Throttling", "ThrottlingException", "RequestLimitExceeded", "LimitExceededException", "KMSInternalException",
    "DependencyTimeoutException", "KeyUnavailableException", "ServiceUnavailable", "InternalFailure", "InternalError",
    "RequestTimeout", "RequestTimeoutException", "TooManyRequestsException",
)  # fmt: skip
"""Error codes of a KMS that may answer a moment later; every other refusal needs a person."""


def kms_client(region: str, endpoint_url: str = "", timeout_s: float = 5.0) -> Any:
    """Return a boto3 client with short timeouts. Credentials come from the environment, as boto3 finds them.

    Raises OperatorError where boto3 is missing or knows neither region nor credentials.
    """
    try:
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError
    except ImportError:
        raise OperatorError(
            "a key is in AWS KMS, but boto3 is not installed: install evenkeel with the extra `kms`"
        ) from None
    logging.getLogger("botocore").setLevel(logging.WARNING)  # its debug lines hold session tokens
    config = Config(
        connect_timeout=timeout_s,
        read_timeout=timeout_s,
        retries={"max_attempts": 2, "mode": "standard"},
        parameter_validation=True,
    )
    try:
        session = boto3.session.Session(region_name=region or None)
        found = session.get_credentials()
        client = session.client("kms", endpoint_url=endpoint_url or None, config=config)
    except (BotoCoreError, ValueError) as error:
        raise OperatorError(f"AWS KMS cannot be used: {error}. Check region and credentials.") from None
    if found is None:
        raise OperatorError("AWS KMS cannot be used: no AWS credentials are to be found in the environment.")
    return client


class _KmsKey(Hidden):
    """One key: what it may be used for is checked once, at the start."""

    __slots__ = ("_client", "key_id")
    is_remote = True
    spec = ""
    algorithm = ""

    def __init__(self, client: Any, key_id: str) -> None:
        self._client = client
        self.key_id = key_id

    def _public_der(self) -> bytes:
        answer = self._call("GetPublicKey", lambda: self._client.get_public_key(KeyId=self.key_id))
        spec = answer.get("KeySpec") or answer.get("CustomerMasterKeySpec")
        usage, algorithms = answer.get("KeyUsage"), answer.get("SigningAlgorithms") or []
        if spec != self.spec or usage != "SIGN_VERIFY" or self.algorithm not in algorithms:
            raise OperatorError(
                f"KMS key {self.key_id} is a {spec} for {usage} with {algorithms}; needed is {self.spec} for SIGN_VERIFY "
                f"with {self.algorithm}"
            )
        der = answer.get("PublicKey")
        if not isinstance(der, bytes):
            raise OperatorError(f"KMS gave no public key for {self.key_id}")
        return der

    def _signature(self, message: bytes, message_type: str) -> bytes:
        answer = self._call(
            "Sign",
            lambda: self._client.sign(
                KeyId=self.key_id, Message=message, MessageType=message_type, SigningAlgorithm=self.algorithm
            ),
        )
        signature = answer.get("Signature")
        if answer.get("SigningAlgorithm") != self.algorithm or not isinstance(signature, bytes):
            raise Retryable(f"KMS answered Sign of {self.key_id} without a {self.algorithm} signature")
        return signature

    def _call(self, what: str, call: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

        try:
            return call()
        except ClientError as error:
            said = error.response.get("Error", {})
            code, text = said.get("Code", "?"), said.get("Message", "")
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            if code in _PASSES or status >= 500:
                raise Retryable(f"KMS cannot {what} with {self.key_id} now: {code} {text}".strip()) from None
            raise OperatorError(
                f"KMS refuses {what} with {self.key_id}: {code} {text}. Check the key's state and the permissions."
            ) from None
        except NoCredentialsError:
            raise OperatorError(f"KMS cannot {what} with {self.key_id}: no AWS credentials") from None
        except BotoCoreError as error:
            raise Retryable(f"KMS does not answer {what} of {self.key_id}: {type(error).__name__}") from None
        except (ValueError, TypeError) as error:  # an answer that cannot be parsed
            raise Retryable(
                f"KMS answered {what} of {self.key_id} unreadably: {type(error).__name__}"
            ) from None


class KmsEvmKey(_KmsKey):
    """A secp256k1 key in KMS (KeySpec ECC_SECG_P256K1)."""

    __slots__ = ("_public", "address")
    spec = "ECC_SECG_P256K1"
    algorithm = "ECDSA_SHA_256"
    address: str

    def __init__(self, client: Any, key_id: str) -> None:
        """Reads the public key. Raises OperatorError (wrong key, no permission) or Retryable (no answer)."""
        super().__init__(client, key_id)
        self._public = public_of_spki(self._public_der(), key_id)
        self.address = "0x" + keccak(self._public)[-20:].hex()

    def sign_digest(self, digest: bytes) -> EvmSignature:
        """Return the signature of a digest; the answer is brought to low s, and its v found by recovery.

        A signature that does not recover to our address is Retryable: it is never used.
        """
        der = self._signature(digest, "DIGEST")
        try:
            r, s = decode_dss_signature(der)
        except ValueError:
            raise Retryable(f"KMS answered Sign of {self.key_id} with no DER signature") from None
        s = min(s, SECP256K1_ORDER - s)
        for v in (0, 1):
            try:
                recovered = keys.Signature(vrs=(v, r, s)).recover_public_key_from_msg_hash(digest)
            except (BadSignature, KeysValidationError, ValueError):
                continue
            if recovered.to_bytes() == self._public:
                return EvmSignature(r, s, 27 + v)
        raise Retryable(f"the signature from KMS key {self.key_id} does not recover to {self.address}")

    def public_name(self) -> str:
        return self.address


class KmsSolanaKey(_KmsKey):
    """An Ed25519 key in KMS (KeySpec ECC_NIST_EDWARDS25519)."""

    __slots__ = ("pubkey",)
    spec = "ECC_NIST_EDWARDS25519"
    algorithm = "ED25519_SHA_512"
    pubkey: Pubkey

    def __init__(self, client: Any, key_id: str) -> None:
        """Reads the public key. Raises OperatorError (wrong key, no permission) or Retryable (no answer)."""
        super().__init__(client, key_id)
        der = self._public_der()
        if len(der) != 44 or not der.startswith(ED25519_SPKI_PREFIX):
            raise OperatorError(f"the public key of KMS key {key_id} is no Ed25519 key as RFC 8410 writes it")
        self.pubkey = Pubkey.from_bytes(der[len(ED25519_SPKI_PREFIX) :])

    def sign_message(self, message: bytes) -> Signature:
        """Return the signature of the raw message: the prehashed variant (ED25519_PH_SHA_512) would not verify on
        Solana.

        A signature that does not verify is Retryable: it is never used.
        """
        if len(message) > MAX_RAW_BYTES:
            raise OperatorError(f"KMS signs at most {MAX_RAW_BYTES} bytes, the message has {len(message)}")
        raw = self._signature(message, "RAW")
        if len(raw) == 64:
            signature = Signature.from_bytes(raw)
            if signature.verify(self.pubkey, message):
                return signature
        raise Retryable(f"the signature from KMS key {self.key_id} does not verify for {self.pubkey}")

    def public_name(self) -> str:
        return str(self.pubkey)


def public_of_spki(der: bytes, key_id: str) -> bytes:
    """Return the 64 bytes (x, y) of a secp256k1 public key in DER SubjectPublicKeyInfo. Raises OperatorError."""
    try:
        public = load_der_public_key(der)
    except Exception:  # cryptography raises several unrelated classes for DER that is none
        raise OperatorError(f"the public key of KMS key {key_id} cannot be read") from None
    if not isinstance(public, EllipticCurvePublicKey) or not isinstance(public.curve, SECP256K1):
        raise OperatorError(f"KMS key {key_id} is not a secp256k1 key")
    return public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)[1:]
