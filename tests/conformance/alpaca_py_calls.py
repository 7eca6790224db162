"""Run by an interpreter that has alpaca-py 0.44: calls come as JSON lines, and each is answered by one.

A call names a client (`trading`, `broker`) and one of its methods; `$account` stands for the account's id. `request` names the
class of the request that the method takes, and its fields. `listen` and `events` start the streams in threads of their own,
and `heard` gives what they have brought so far.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
import threading
from typing import Any

from alpaca.broker.client import BrokerClient
from alpaca.trading.client import TradingClient
from alpaca.trading.stream import TradingStream
from pydantic import BaseModel

MARK = "ANSWER "


def plain(value: Any) -> Any:
    """Return a value as JSON has it."""
    if isinstance(value, BaseModel):
        return json.loads(value.model_dump_json())
    if isinstance(value, list):
        return [plain(each) for each in value]
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in value.items()}
    return value


class Calls:
    def __init__(self, given: dict[str, Any]) -> None:
        self.given = given
        url, trading, broker = given["url"], given["trading"], given["broker"]
        self.trading = TradingClient(trading["key_id"], trading["secret"], url_override=url)
        self.broker = BrokerClient(broker["key_id"], broker["secret"], url_override=url)
        self.heard: dict[str, list[Any]] = {"stream": [], "events": []}

    def request(self, named: dict[str, Any]) -> Any:
        """The request object that a method takes: its module, class and fields."""
        module, _, name = named["class"].rpartition(".")
        fields = {key: self.filled(value) for key, value in named["fields"].items()}
        return getattr(importlib.import_module(module), name)(**fields)

    def filled(self, value: Any) -> Any:
        return self.given["account"] if value == "$account" else value

    def call(self, asked: dict[str, Any]) -> Any:
        what = asked["call"]
        if what == "listen":
            return self.listen()
        if what == "events":
            threading.Thread(target=self.events, daemon=True).start()
            return True
        if what == "heard":
            return self.heard[asked["args"][0]]
        client, _, method = what.partition(".")
        args = [self.filled(one) for one in asked.get("args", [])]
        if "request" in asked:
            args.append(self.request(asked["request"]))
        return plain(getattr(getattr(self, client), method)(*args))

    def listen(self) -> bool:
        """Start the WebSocket of trade updates in its own thread and loop."""
        keys = self.given["trading"]
        stream = TradingStream(keys["key_id"], keys["secret"], url_override=self.given["stream_url"])

        async def took(update: Any) -> None:
            self.heard["stream"].append(plain(update))

        stream.subscribe_trade_updates(took)
        threading.Thread(target=lambda: asyncio.run(stream._run_forever()), daemon=True).start()
        return True

    def events(self) -> None:
        """Read server-sent events until the process ends."""
        for data in self.broker.get_trade_events():
            self.heard["events"].append(json.loads(data))


def main() -> None:
    calls = Calls(json.loads(sys.argv[1]))
    for line in sys.stdin:
        try:
            answer = {"result": calls.call(json.loads(line))}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        sys.stdout.write(MARK + json.dumps(answer, default=str) + "\n")
        sys.stdout.flush()


main()
