"""The contracts of the Ostium twin speak the venue's own bytes: selectors, topics, named errors, and its real logs."""

from __future__ import annotations

import json
import os
import re
from decimal import Decimal
from pathlib import Path

import pytest
from eth_utils import keccak

from twins.evm.deploying import artefact
from twins.evm.interface import Interface, signature
from twins.ostium.deployment import CONTRACTS, NAMES, interface

DATA = Path(os.environ.get("EVENKEEL_DATA") or Path(__file__).parents[3] / "shared" / "data") / "ostium"
recorded = pytest.mark.skipif(not DATA.is_dir(), reason="no recorded data (EVENKEEL_DATA or ../shared/data)")

SELECTORS = {
    "trading": """1365e4e4 openTrade efc10755 closeTradeMarket e2441c04 updateSl be9267be updateTp 0a21b1a1 topUpCollateral
        56ac637e removeCollateral c444e746 cancelOpenLimitOrder 4f9a9e64 updateOpenLimitOrder 876d3abd openTradeMarketTimeout
        3f21ea62 closeTradeMarketTimeout 9a10cc32 delegatedAction ca5eb5e1 setDelegate 36fb8b15 removeDelegate
        055af781 setDelegateWithSignature bffe3486 delegations 7b103999 registry b187bd26 isPaused 8f062227 isDone
        410c0b7c marketOrdersTimeout fc8b2698 triggerTimeout bf815d2e maxAllowedCollateral cf43af20 delegatableNonces
        3644e515 DOMAIN_SEPARATOR e7a324dc DELEGATION_TYPEHASH 01a69331 executeAutomationOrder""",
    "storage": """4f786488 getOpenTrade 54307131 getOpenTradeInfo 806f988e getOpenLimitOrder f3608d12 openTradesCount
        5c76ac9e getPendingOrderIds b66e6b05 reqID_pendingMarketOrder 3e413bee usdc 7a523273 openInterest
        f65d9dbe maxTradesPerPair 8049fde7 maxPendingMarketOrders""",
    "callbacks": """c49d205c closeFeeStartingP c939806d closeFeeDecayWindow 6c4dd9ef maxSl_P b187bd26 isPaused
        8f062227 isDone 4e8fdedb openTradeMarketCallback 5f7a93af closeTradeMarketCallback""",
    "pairs": """0bdf25df pairMaxLeverage 0d3cd59f pairOvernightMaxLeverage d9df69f2 pairMinLevPos baceb009 pairOracleFee
        daf84c9f groupCollateral e958d489 groupMaxCollateral""",
    "infos": """f5826a01 getTradeRolloverFee 6269f5d3 getTradeLiquidationPrice 5e40aacd pairRolloverFeesV2
        76c99427 liqMarginThresholdP 8f306244 getTradeFundingFee ef02184f pairDynamicSpreadParams""",
    "vault": "01e1d114 totalAssets 20124bce availableAssets e66a6e3b sendAssets a481c14b receiveAssets",
    "registry": "",
}
TOPICS = {
    "trading": """fb4a26aa MarketOpenOrderInitiated 955808f2 MarketCloseOrderInitiatedV2 608a8b19 OpenLimitPlacedV2
        af0078fc OpenLimitCanceled 2a0cf479 SlUpdated 9b366191 TpUpdated 12dade47 DelegateAdded e8514dd4 DelegateRemoved
        1ae38b44 MarketOpenTimeoutExecutedV2 14d358e8 MarketCloseTimeoutExecutedV2 b8b06ffb TopUpCollateralExecuted
        e2357898 OracleFeeRefunded 1c0cf118 RemoveCollateralInitiated f030e9b5 AutomationCloseOrderInitiated""",
    "callbacks": """c15478b6 MarketOpenExecuted 1dc35326 MarketOpenCanceled caa9acf3 MarketCloseExecutedV2
        0bdd6600 MarketCloseCanceled 444c09c4 LimitOpenExecuted 6d242839 LimitCloseExecuted 3f6d474c VaultLiqFeeCharged
        457c3034 FeesChargedV2 9d91cd48 OracleFeeCharged d8c35243 AutomationOpenOrderCanceled
        f754b2e6 AutomationCloseOrderCanceled d182bace RemoveCollateralExecuted fa3942c9 RemoveCollateralRejected
        9ec377a4 CloseFeeCharged 48d3d23d BuilderFeeCharged f517fcc4 DevFeeCharged""",
}
ERRORS = """80a71fc5 AboveMaxAllowedCollateral f120e11f BelowFees eca695e1 BelowMinLevPos
    b09e78ce DelegateForbidden 46c4ede2 ExposureLimits 1309a563 IsPaused 084986e7 IsDone
    5c12ea62 MaxPendingMarketOrdersReached e6f47fab MaxTradesPerPairReached 502b946d NotDelegate 17e08e97 NoTradeFound
    cb87b762 PairNotListed dd9397bb TriggerPending 3e0b1869 WaitTimeout 35fe85c5 WrongLeverage 5863f789 WrongParams
    083fbd78 WrongSL a41bb918 WrongTP 4f9cbad0 DelegateReentrant 5be5878a DelegatedActionFailed 1c49f4d1 InvalidCallData
    756688fe InvalidNonce 8baa579f InvalidSignature 2a917859 NoDelegate a35ee470 NoLimitFound
    efa9e5be NoTradeToTimeoutFound c7fe4d00 NotCloseMarketTimeoutOrder 1add0915 NotOpenMarketTimeoutOrder
    5ac89f62 NotYourOrder 0819bdcd SignatureExpired f3d0b126 NullAddr 3786fdd4 NotEnoughAssets
    797013df RefundOracleFeeFailed fc33f1bd NotEmptyIndex 8aefb98e NoOpenLimitOrder bde4d0f1 NotCallbacks
    093650d5 NotGov 2a19e833 NotManager 46daa3ad NotTrading 3f7084a5 NotTradingOrCallbacks 293ac336 NotPriceUpKeep
    432b6c83 NotTradesUpKeep"""
OF_THE_VENUE_ALONE = {"NotForwarder"}
"""Its selector was published nowhere."""


def published(text: str) -> dict[str, str]:
    words = text.split()
    return dict(zip(words[1::2], words[::2], strict=True))


@pytest.mark.parametrize("name", SELECTORS)
def test_each_function_has_the_venues_selector(name: str) -> None:
    ours = {key: keccak(text=signature(one))[:4].hex() for key, one in interface(name).functions.items()}
    wanted = published(SELECTORS[name])
    assert {key: ours.get(key) for key in wanted} == wanted


@pytest.mark.parametrize("name", TOPICS)
def test_each_event_has_the_venues_topic(name: str) -> None:
    ours = {one["name"]: topic[2:10] for topic, one in interface(name).events.items()}
    wanted = published(TOPICS[name])
    assert {key: ours.get(key) for key in wanted} == wanted


def test_the_price_request_has_the_topic_by_which_the_sdk_finds_an_order() -> None:
    [topic] = [key for key, one in interface("prices").events.items() if one["name"] == "PriceRequestedV2"]
    assert topic.startswith("0x0b34af4d") and topic.endswith("8211e")


def test_each_error_that_is_raised_has_the_venues_selector() -> None:
    raised = set()
    for source in CONTRACTS.rglob("*.vy"):
        text = source.read_text()
        forbidden_names = re.findall(r'name == method_id\("([^"]+)"\)', text)
        raised |= set(re.findall(r'method_id\("([^"]+)"\)', text)) - set(forbidden_names)
    ours = {one.split("(")[0]: keccak(text=one)[:4].hex() for one in raised if one[0].isupper()}
    assert {key: value for key, value in ours.items() if key not in OF_THE_VENUE_ALONE} == published(ERRORS)


def test_every_contract_fits_into_a_block_as_on_the_chain() -> None:
    for name in (*NAMES, "registry"):
        assert len(artefact(name, CONTRACTS)["bytecode"]) // 2 < 24_576, name


@recorded
def test_the_real_logs_of_an_open_and_a_close_are_read_as_the_twins_own_events() -> None:
    logs = json.loads((DATA / "settlement_logs.json").read_text())
    every = Interface([*interface("callbacks").abi, *interface("trading").abi, *artefact("usdc")["abi"]])
    fee, opened = (every.event(log) for log in logs["open"]["logs"])
    assert fee and fee.name == "OracleFeeCharged" and fee.args["amount"] == 1_000_000
    assert opened and opened.name == "MarketOpenExecuted" and opened.args["orderId"] == 2
    trade = opened.args["t"]
    assert (trade["collateral"], trade["leverage"], trade["buy"]) == (999_000_000, 1_000, True)
    assert trade["openPrice"] == 65_001 * 10**18
    assert opened.args["tradeNotional"] == 153_689_943_231_642_590
    sent, fees, closed, refund, refunded = (every.event(log) for log in logs["close"]["logs"])
    assert sent and fees and closed and refund and refunded
    assert [one.name for one in (sent, fees, closed, refund, refunded)] == [
        "Transfer",
        "FeesChargedV2",
        "MarketCloseExecutedV2",
        "Transfer",
        "OracleFeeRefunded",
    ]
    assert closed.args["percentProfit"] == -30_768 and closed.args["percentageClosed"] == 10_000
    assert closed.args["usdcSentToTrader"] == sent.args["value"] == 998_692_628
    assert refund.args["value"] == refunded.args["amount"] == 1_000_000
    net = Decimal(sent.args["value"] + refund.args["value"] - 1_000_000_000 - 1_000_000) / 10**6
    assert net == Decimal("-1.307372")
