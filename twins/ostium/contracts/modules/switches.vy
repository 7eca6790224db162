# pragma version 0.4.3
"""
@notice A module of callbacks: who may stop it, who may answer, and what it reads of a slot.
"""
from modules import parts
import shapes
import storage

uses: parts

event Done:
    done: bool

event Paused:
    paused: bool

maxSl_P: public(uint8)
isPaused: public(bool)
isDone: public(bool)


@deploy
def __init__():
    self.maxSl_P = 85


@external
def pause():
    parts.only_manager()
    self.isPaused = not self.isPaused
    log Paused(paused=self.isPaused)


@external
def done():
    parts.only_gov()
    self.isDone = not self.isDone
    log Done(done=self.isDone)


@internal
@view
def may_answer():
    if msg.sender != parts.at(b"priceRouter"):
        raw_revert(abi_encode(msg.sender, method_id=method_id("NotPriceUpKeep(address)")))
    if self.isDone:
        raw_revert(method_id("IsDone()"))


@internal
@view
def open_trade(trader: address, pairIndex: uint16, index: uint8) -> shapes.Trade:
    return staticcall storage.__interface__(parts.at(b"tradingStorage")).getOpenTrade(trader, pairIndex, index)


@internal
@view
def info_of(trader: address, pairIndex: uint16, index: uint8) -> shapes.TradeInfo:
    return staticcall storage.__interface__(parts.at(b"tradingStorage")).getOpenTradeInfo(trader, pairIndex, index)
