"""In which order tests run: the longest first, on all processes at once, so that at the end none waits for one of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")

LONGEST = {
    "tests/integration/research/test_parity.py": 108,
    "tests/integration/test_up.py": 132,
    "tests/integration/test_prefect_schedules.py": 58,
    "tests/integration/carry/test_prefect_flows.py": 53,
    "tests/workers/test_sample.py": 49,
    "tests/integration/carry/test_prometheus.py": 45,
    "tests/integration/accounts/test_demo.py": 43,
    "tests/chaos/carry/test_mutations.py": 40,
    "tests/chaos/carry/test_sample.py": 37,
    "tests/integration/carry/test_slack_connection.py": 35,
    "tests/integration/test_message_channels.py": 35,
    "tests/chaos/carry/test_demo_killed.py": 34,
    "tests/integration/hedging/test_demo.py": 32,
    "tests/integration/carry/test_cli_answers.py": 31,
    "tests/integration/carry/test_every_alert.py": 30,
    "tests/integration/hedging/test_prefect_handover.py": 35,
    "tests/integration/accounts/test_prefect_watch.py": 40,
}
"""Files by the seconds that they take, those that matter. A file that is missing here only begins later."""


def longest_first(tests: Sequence[T], name_of: Callable[[T], str], workers: int) -> list[T]:
    """Return the tests in the order in which `--dist worksteal` deals them out: each process is given one stretch of the list,
    all of equal count, and takes from the end of another's when it has done its own. Each stretch begins with long files.
    """
    by_file: dict[str, list[T]] = {name: [] for name in LONGEST}
    others: list[T] = []
    for test in tests:
        by_file.get(name_of(test).partition("::")[0], others).append(test)
    stretches: list[list[T]] = [[] for _ in range(workers)]
    seconds = [0] * workers
    for name, long in sorted(LONGEST.items(), key=lambda one: -one[1]):
        least = seconds.index(min(seconds))
        seconds[least] += long if by_file[name] else 0
        stretches[least] += by_file[name]
    found: list[T] = []
    for number, stretch in enumerate(stretches):
        left = len(tests) - len(found)
        count = max(left // (workers - number) - len(stretch), 0)
        found += stretch + others[:count]
        del others[:count]
    return found
