"""Puts what emulated programs say into the log of the transaction that really ran."""

from __future__ import annotations

from collections.abc import Sequence

from solders.pubkey import Pubkey

from twins.solana.programs import ProgramError


def _top_level(logs: Sequence[str], program_ids: Sequence[Pubkey]) -> dict[int, int]:
    """Line of the "invoke [1]" of each top-level instruction that logged one."""
    lines: dict[int, int] = {}
    index = 0
    for line, text in enumerate(logs):
        if not text.endswith(" invoke [1]"):
            continue
        while index < len(program_ids) and text != f"Program {program_ids[index]} invoke [1]":
            index += 1
        lines[index] = line
        index += 1
    return lines


def with_program_logs(
    logs: Sequence[str], program_ids: Sequence[Pubkey], said: dict[int, Sequence[str]]
) -> tuple[str, ...]:
    at = {line: said.get(index, ()) for index, line in _top_level(logs, program_ids).items()}
    out: list[str] = []
    for line, text in enumerate(logs):
        out.append(text)
        out += [f"Program log: {entry}" for entry in at.get(line, ())]
    return tuple(out)


def failing_logs(
    logs: Sequence[str], program_ids: Sequence[Pubkey], index: int, problem: ProgramError
) -> tuple[str, ...]:
    program_id = program_ids[index]
    kept = list(logs[: _top_level(logs, program_ids).get(index, len(logs))])
    kept.append(f"Program {program_id} invoke [1]")
    if problem.log:
        kept.append(f"Program log: {problem.log}")
    kept.append(f"Program {program_id} failed: custom program error: {problem.code:#x}")
    return tuple(kept)
