"""A real program that calls on: an sBPF executable that spends a signer's lamports through the System program.

It shows what any unknown program may do with a signature that it is handed: signer privilege flows into calls.
"""

from __future__ import annotations

import struct

ACCOUNT_BYTES = 8 + 32 + 32 + 8 + 8 + 10_240 + 8
"""An account without data in the loader's input: head, key, owner, lamports, length, room to grow, rent epoch."""
_SYSCALL = b"sol_invoke_signed_c"


def _op(code: int, dst: int = 0, src: int = 0, offset: int = 0, imm: int = 0) -> bytes:
    return struct.pack("<BBhi", code, dst | src << 4, offset, imm)


def _mov(dst: int, imm: int) -> bytes:
    return _op(0xB7, dst, imm=imm)


def _pointer(dst: int, base: int, offset: int) -> bytes:
    """dst = base + offset"""
    return _op(0xBF, dst, base) + _op(0x07, dst, imm=offset)


def _store(offset: int, src: int) -> bytes:
    """[r10 + offset] = src, 8 bytes"""
    return _op(0x7B, 10, src, offset)


def _store_imm(offset: int, value: int) -> bytes:
    return _op(0x7A, 10, 0, offset, value)


def _store_byte(offset: int, value: int) -> bytes:
    return _op(0x72, 10, 0, offset, value)


def _program(lamports: int) -> tuple[bytes, int]:
    """Instructions, and where in them the call stands. Accounts: payer (signer), receiver, System program."""
    instruction, metas, data, infos = -40, -72, -88, -200
    text = _op(0xBF, 6, 1)  # r6 = input
    for number in (0, 1):
        at = 8 + number * ACCOUNT_BYTES
        meta, info = metas + 16 * number, infos + 56 * number
        text += _pointer(2, 6, at + 8) + _store(meta, 2) + _store_imm(meta + 8, 0)
        text += _store_byte(meta + 8, 1) + _store_byte(meta + 9, 1 - number)
        text += _store(info, 2)
        text += _pointer(2, 6, at + 72) + _store(info + 8, 2) + _store_imm(info + 16, 0)
        text += _pointer(2, 6, at + 88) + _store(info + 24, 2)
        text += _pointer(2, 6, at + 40) + _store(info + 32, 2) + _store_imm(info + 40, 0)
        text += _store_imm(info + 48, 0) + _store_byte(info + 48, 1 - number) + _store_byte(info + 49, 1)
    text += _store_imm(data, 2)  # the tag; its upper half is overwritten next
    text += _op(0x18, 2, imm=lamports & 0x7FFFFFFF) + _op(0, imm=lamports >> 32)
    text += _op(0x7B, 10, 2, data + 4)
    text += _pointer(2, 6, 8 + 2 * ACCOUNT_BYTES + 8) + _store(instruction, 2)
    text += _pointer(2, 10, metas) + _store(instruction + 8, 2) + _store_imm(instruction + 16, 2)
    text += _pointer(2, 10, data) + _store(instruction + 24, 2) + _store_imm(instruction + 32, 12)
    text += _pointer(1, 10, instruction) + _pointer(2, 10, infos) + _mov(3, 2) + _mov(4, 0) + _mov(5, 0)
    call_at = len(text)
    return text + _op(0x85, 0, 1, imm=-1) + _mov(0, 0) + _op(0x95), call_at


def spending_elf(lamports: int) -> bytes:
    """Return an executable whose every call sends `lamports` (below 2**31) from its first account to its second."""
    if not 0 < lamports < 2**31:
        raise ValueError(f"lamports must be within 1..{2**31 - 1}, got {lamports}")
    text, call_at = _program(lamports)
    names = b"\0.text\0.dynamic\0.dynsym\0.dynstr\0.rel.dyn\0.shstrtab\0"
    strings = b"\0" + _SYSCALL + b"\0"
    strings = strings.ljust(-(-len(strings) // 8) * 8, b"\0")
    text_at = 64 + 2 * 56
    dynamic_at = text_at + len(text)
    symbols_at = dynamic_at + 16 * 8
    strings_at = symbols_at + 48
    rel_at = strings_at + len(strings)
    names_at = rel_at + 16
    sections_at = -(-(names_at + len(names)) // 8) * 8
    dynamic = b"".join(
        struct.pack("<QQ", tag, value)
        for tag, value in (
            (17, rel_at),  # DT_REL
            (18, 16),  # DT_RELSZ
            (19, 16),  # DT_RELENT
            (6, symbols_at),  # DT_SYMTAB
            (11, 24),  # DT_SYMENT
            (5, strings_at),  # DT_STRTAB
            (10, len(strings)),  # DT_STRSZ
            (0, 0),
        )
    )
    symbols = bytes(24) + struct.pack("<IBBHQQ", 1, 0x10, 0, 0, 0, 0)
    relocation = struct.pack("<QQ", text_at + call_at, 1 << 32 | 10)  # symbol 1, R_BPF_64_32
    header = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)
    header += struct.pack("<HHIQQQIHHHHHH", 3, 247, 1, text_at, 64, sections_at, 0, 64, 56, 2, 64, 7, 6)
    load = struct.pack("<IIQQQQQQ", 1, 5, text_at, text_at, text_at, len(text), len(text), 0x1000)
    moving = struct.pack("<IIQQQQQQ", 2, 6, dynamic_at, dynamic_at, dynamic_at, 128, 128, 8)
    body = header + load + moving + text + dynamic + symbols + strings + relocation + names
    sections = bytes(64)
    for name, kind, flags, at, size, link, info, align, entry in (
        (b".text", 1, 6, text_at, len(text), 0, 0, 8, 0),
        (b".dynamic", 6, 3, dynamic_at, 128, 4, 0, 8, 16),
        (b".dynsym", 11, 2, symbols_at, 48, 4, 1, 8, 24),
        (b".dynstr", 3, 2, strings_at, len(strings), 0, 0, 1, 0),
        (b".rel.dyn", 9, 2, rel_at, 16, 3, 0, 8, 16),
        (b".shstrtab", 3, 0, names_at, len(names), 0, 0, 1, 0),
    ):
        where = 0 if name == b".shstrtab" else at
        sections += struct.pack(
            "<IIQQQQIIQQ", names.index(name + b"\0"), kind, flags, where, at, size, link, info, align, entry
        )
    return body.ljust(sections_at, b"\0") + sections
