"""Base58 with the Bitcoin alphabet, as Solana writes bytes of any length."""

from __future__ import annotations

_ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_VALUE = {letter: value for value, letter in enumerate(_ALPHABET)}


def encode(data: bytes) -> str:
    zeros = len(data) - len(data.lstrip(b"\0"))
    number = int.from_bytes(data, "big")
    letters = ""
    while number:
        number, digit = divmod(number, 58)
        letters = _ALPHABET[digit] + letters
    return "1" * zeros + letters


def decode(text: str) -> bytes:
    """Return the bytes of a base58 text. Raises ValueError naming the first character that is not of the alphabet."""
    number = 0
    for at, letter in enumerate(text):
        if letter not in _VALUE:
            raise ValueError(f"InvalidCharacter {{ character: {letter!r}, index: {at} }}")
        number = number * 58 + _VALUE[letter]
    zeros = len(text) - len(text.lstrip("1"))
    return bytes(zeros) + number.to_bytes(-(-number.bit_length() // 8), "big")
