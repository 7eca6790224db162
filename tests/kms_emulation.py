"""A local KMS for both curves: the documented JSON API (`TrentService.Sign`, `.GetPublicKey`) over real keys on loopback.

Rules and error codes are those of the AWS KMS API Reference: key specs, message types, 32-byte digests, 4096-byte raw
messages. It shares no code with the signers; a real boto3 client speaks to it through `endpoint_url`.
"""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

REGION = "eu-central-1"
ED25519, SECP256K1 = "ECC_NIST_EDWARDS25519", "ECC_SECG_P256K1"
ALGORITHMS = {ED25519: ["ED25519_SHA_512", "ED25519_PH_SHA_512"], SECP256K1: ["ECDSA_SHA_256"]}
PrivateKey = Ed25519PrivateKey | ec.EllipticCurvePrivateKey


class Refusal(Exception):
    def __init__(self, code: str, text: str, status: int = 400) -> None:
        super().__init__(code)
        self.body = {"__type": code, "message": text}
        self.status = status


@dataclass
class KmsEmulation:
    """`keys` by id. `refuse_next` answers the next calls with these refusals; `mangle` changes a signature on its way."""

    url: str = ""
    keys: dict[str, PrivateKey] = field(default_factory=dict)
    usage: dict[str, str] = field(default_factory=dict)
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    refuse_next: list[Refusal] = field(default_factory=list)
    disabled: set[str] = field(default_factory=set)
    mangle: str = ""
    force_high_s: bool = False

    def add_ed25519(self, key_id: str, seed: bytes) -> None:
        self.keys[key_id] = Ed25519PrivateKey.from_private_bytes(seed)

    def add_secp256k1(self, key_id: str, secret: bytes) -> None:
        self.keys[key_id] = ec.derive_private_key(int.from_bytes(secret, "big"), ec.SECP256K1())

    def signs(self, key_id: str) -> int:
        return sum(1 for what, asked in self.calls if what == "Sign" and asked["KeyId"] == key_id)

    def answer(self, what: str, asked: dict[str, Any]) -> dict[str, Any]:
        self.calls.append((what, asked))
        if self.refuse_next:
            raise self.refuse_next.pop(0)
        key = self.keys.get(asked.get("KeyId", ""))
        if key is None:
            raise Refusal("NotFoundException", f"Key {asked.get('KeyId')!r} does not exist")
        if asked["KeyId"] in self.disabled:
            raise Refusal("DisabledException", f"{asked['KeyId']} is disabled.")
        spec = ED25519 if isinstance(key, Ed25519PrivateKey) else SECP256K1
        arn = f"arn:aws:kms:{REGION}:111122223333:key/{asked['KeyId']}"
        if what == "GetPublicKey":
            der = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
            return {
                "KeyId": arn,
                "PublicKey": base64.b64encode(der).decode(),
                "KeySpec": spec,
                "CustomerMasterKeySpec": spec,
                "KeyUsage": self.usage.get(asked["KeyId"], "SIGN_VERIFY"),
                "SigningAlgorithms": ALGORITHMS[spec],
            }
        if what != "Sign":
            raise Refusal("UnknownOperationException", what)
        signature = self._sign(key, spec, asked)
        return {
            "KeyId": arn,
            "Signature": base64.b64encode(self._mangled(signature)).decode(),
            "SigningAlgorithm": asked["SigningAlgorithm"],
        }

    def _sign(self, key: PrivateKey, spec: str, asked: dict[str, Any]) -> bytes:
        message, kind, algorithm = (
            base64.b64decode(asked["Message"]),
            asked["MessageType"],
            asked["SigningAlgorithm"],
        )
        if algorithm not in ALGORITHMS[spec]:
            raise Refusal("InvalidKeyUsageException", f"{algorithm} cannot be used with {spec}")
        if len(message) > 4096:
            raise Refusal("ValidationException", "Member must have length less than or equal to 4096")
        if isinstance(key, Ed25519PrivateKey):
            if (algorithm, kind) != ("ED25519_SHA_512", "RAW"):
                raise Refusal("ValidationException", f"{algorithm} does not take {kind} here")
            return key.sign(message)
        if kind == "DIGEST" and len(message) != 32:
            raise Refusal("ValidationException", "Digest is invalid length for algorithm ECDSA_SHA_256.")
        hashing: Any = utils.Prehashed(hashes.SHA256()) if kind == "DIGEST" else hashes.SHA256()
        r, s = utils.decode_dss_signature(key.sign(message, ec.ECDSA(hashing)))
        order = 2**256 - 432420386565659656852420866394968145599
        high = max(s, order - s)
        return utils.encode_dss_signature(r, high if self.force_high_s else s)

    def _mangled(self, signature: bytes) -> bytes:
        if self.mangle == "flip":
            return signature[:-1] + bytes([signature[-1] ^ 1])
        if self.mangle == "cut":
            return signature[:-2]
        return signature


def _handler(kms: KmsEmulation) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            try:
                scope = f"/{REGION}/kms/aws4_request"
                if scope not in self.headers.get("Authorization", ""):
                    raise Refusal("IncompleteSignatureException", "no SigV4 signature for kms")
                if self.headers.get("Content-Type") != "application/x-amz-json-1.1":
                    raise Refusal("UnknownOperationException", "content type")
                target = self.headers.get("X-Amz-Target", "")
                self._say(200, kms.answer(target.removeprefix("TrentService."), json.loads(body)))
            except Refusal as refusal:
                self._say(refusal.status, refusal.body)

        def _say(self, status: int, body: dict[str, Any]) -> None:
            raw = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/x-amz-json-1.1")
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, format: str, *args: Any) -> None:
            return

    return Handler


@contextmanager
def kms_emulation() -> Iterator[KmsEmulation]:
    """Serve on a random loopback port, in threads of its own."""
    kms = KmsEmulation()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(kms))
    server.daemon_threads = True
    kms.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield kms
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=5)
