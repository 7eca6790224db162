# pragma version 0.4.3
"""
@notice A module of every contract of the venue: it finds the others by the registry, and says who may call.
"""
import registry as addresses

registry: public(immutable(address))


@deploy
def __init__(registry_: address):
    registry = registry_


@internal
@view
def at(name: Bytes[32]) -> address:
    return staticcall addresses.__interface__(registry).getContractAddress(convert(name, bytes32))


@internal
@view
def only_gov():
    if msg.sender != staticcall addresses.__interface__(registry).gov():
        raw_revert(abi_encode(msg.sender, method_id=method_id("NotGov(address)")))


@internal
@view
def only_manager():
    if msg.sender != staticcall addresses.__interface__(registry).manager():
        raw_revert(abi_encode(msg.sender, method_id=method_id("NotManager(address)")))


@internal
@view
def only_trading():
    if msg.sender != self.at(b"trading"):
        raw_revert(abi_encode(msg.sender, method_id=method_id("NotTrading(address)")))


@internal
@view
def only_callbacks():
    if msg.sender != self.at(b"callbacks"):
        raw_revert(abi_encode(msg.sender, method_id=method_id("NotCallbacks(address)")))


@internal
@view
def only_trading_or_callbacks():
    if msg.sender != self.at(b"trading") and msg.sender != self.at(b"callbacks"):
        raw_revert(abi_encode(msg.sender, method_id=method_id("NotTradingOrCallbacks(address)")))
