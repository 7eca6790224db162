"""The logs of the venue's contracts, read block by block; begun anew where the chain was reorganised."""

from __future__ import annotations

from dataclasses import dataclass

from twins.evm.interface import Event
from twins.evm.twin import EvmTwin
from twins.ostium.deployment import Deployment, interface

READ = ("trading", "callbacks", "prices", "infos")


@dataclass(frozen=True)
class Entry:
    """One event and when its block was made."""

    at_s: int
    event: Event


class Journal:
    """What happened on the venue so far, in order. `rewritten` counts how often it was begun anew."""

    def __init__(self, chain: EvmTwin, venue: Deployment) -> None:
        self._chain = chain
        self._venue = venue
        self._first = int(venue.node.rpc("eth_blockNumber"), 16) + 1
        self._read: tuple[int, str] | None = None
        self._interfaces = {venue.at[name]: interface(name) for name in READ}
        self.entries: list[Entry] = []
        self.rewritten = 0
        self.height = self._first - 1

    async def read(self) -> None:
        """Read the blocks that were made since."""
        if self._read is not None:
            block = await self._chain.own("eth_getBlockByNumber", hex(self._read[0]), False)
            if block is None or block["hash"] != self._read[1]:
                self.entries, self._read, self.rewritten = [], None, self.rewritten + 1
        first = self._first if self._read is None else self._read[0] + 1
        latest = await self._chain.own("eth_getBlockByNumber", "latest", False)
        last = int(latest["number"], 16)
        if last < first:
            return
        asked = {"fromBlock": hex(first), "toBlock": hex(last), "address": list(self._interfaces)}
        times: dict[str, int] = {}
        for log in await self._chain.own("eth_getLogs", asked):
            event = self._interfaces[log["address"].lower()].event(log)
            if event is None:
                continue
            number = log["blockNumber"]
            if number not in times:
                block = await self._chain.own("eth_getBlockByNumber", number, False)
                times[number] = int(block["timestamp"], 16)
            self.entries.append(Entry(times[number], event))
        self._read = (last, latest["hash"])
        self.height = last
