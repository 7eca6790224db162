# pragma version 0.4.3
"""
@notice Who governs, and where each of the venue's contracts lies.
"""

gov: public(address)
manager: public(address)
dev: public(address)
getContractAddress: public(HashMap[bytes32, address])


@deploy
def __init__():
    self.gov = msg.sender
    self.manager = msg.sender
    self.dev = msg.sender


@external
def setContractAddress(name: bytes32, contract: address):
    if msg.sender != self.gov:
        raw_revert(abi_encode(msg.sender, method_id=method_id("NotGov(address)")))
    self.getContractAddress[name] = contract
