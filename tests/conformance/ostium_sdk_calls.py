"""Run by an interpreter that has ostium-python-sdk 3.3.1: calls come as JSON lines, and each is answered by one.

A call names a member of `OstiumSDK` by its dots. What the SDK prints by itself goes to the same output, without the mark.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import sys
from decimal import Decimal
from typing import Any

from ostium_python_sdk import NetworkConfig, OstiumSDK
from web3 import Web3

MARK = "ANSWER "


def plain(value: Any) -> Any:
    """Return a value as JSON has it: bytes as hex, decimals as text."""
    if isinstance(value, bytes):
        return "0x" + value.hex().removeprefix("0x")
    if isinstance(value, Decimal):
        return str(value)
    if hasattr(value, "items"):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return value


async def main() -> None:
    given = json.loads(sys.argv[1])
    contracts = {name: Web3.to_checksum_address(at) for name, at in given["contracts"].items()}
    sdk = OstiumSDK(
        NetworkConfig(given["graph"], contracts, True),
        private_key=given["key"],
        rpc_url=given["rpc"],
        use_delegation=True,
        submit_rpc_url=given["rpc"],
    )
    sdk.price.base_url = given["prices"]
    for line in sys.stdin:
        asked = json.loads(line)
        member: Any = sdk
        for part in asked["call"].split("."):
            member = getattr(member, part)
        args = [sdk.subgraph if one == "$subgraph" else one for one in asked.get("args", [])]
        try:
            found = member(*args, **asked.get("more", {}))
            if inspect.isawaitable(found):
                found = await found
            answer = {"result": plain(found)}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(MARK + json.dumps(answer), flush=True)


asyncio.run(main())
