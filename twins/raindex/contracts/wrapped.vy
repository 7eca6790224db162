# pragma version 0.4.3
"""
@notice A wrapped stock: a token of eighteen decimals whose worth in shares changes with dividends and splits (ERC-4626's
        `convertToAssets`). Its name may say anything; its issuer makes it and sets its ratio.
"""

event Transfer:
    sender: indexed(address)
    receiver: indexed(address)
    value: uint256

event Approval:
    owner: indexed(address)
    spender: indexed(address)
    value: uint256

decimals: public(constant(uint8)) = 18
ONE: constant(uint256) = 10**18

issuer: public(immutable(address))
symbol: public(String[32])
ratio: public(uint256)
totalSupply: public(uint256)
balanceOf: public(HashMap[address, uint256])
allowance: public(HashMap[address, HashMap[address, uint256]])


@deploy
def __init__(symbol: String[32]):
    issuer = msg.sender
    self.symbol = symbol
    self.ratio = ONE


@external
@view
def convertToAssets(shares: uint256) -> uint256:
    return shares * self.ratio // ONE


@external
def set_ratio(ratio: uint256):
    assert msg.sender == issuer
    self.ratio = ratio


@external
def mint(receiver: address, amount: uint256):
    assert msg.sender == issuer
    self.totalSupply += amount
    self.balanceOf[receiver] += amount
    log Transfer(sender=empty(address), receiver=receiver, value=amount)


@internal
def _move(sender: address, receiver: address, amount: uint256):
    self.balanceOf[sender] -= amount
    self.balanceOf[receiver] += amount
    log Transfer(sender=sender, receiver=receiver, value=amount)


@external
def transfer(to: address, amount: uint256) -> bool:
    self._move(msg.sender, to, amount)
    return True


@external
def transferFrom(sender: address, to: address, amount: uint256) -> bool:
    self.allowance[sender][msg.sender] -= amount
    self._move(sender, to, amount)
    return True


@external
def approve(spender: address, amount: uint256) -> bool:
    self.allowance[msg.sender][spender] = amount
    log Approval(owner=msg.sender, spender=spender, value=amount)
    return True
