# pragma version 0.4.3
"""
@notice A wrapped stock: a token of eighteen decimals whose worth in shares changes with dividends and splits (ERC-4626's
        `convertToAssets`). Its name may say anything; its issuer makes it, sets its ratio, and may name the token inside: then
        everybody wraps and unwraps it.
"""

interface Inside:
    def transfer(to: address, amount: uint256) -> bool: nonpayable
    def transferFrom(sender: address, to: address, amount: uint256) -> bool: nonpayable

event Transfer:
    sender: indexed(address)
    receiver: indexed(address)
    value: uint256

event Approval:
    owner: indexed(address)
    spender: indexed(address)
    value: uint256

event Deposit:
    sender: indexed(address)
    owner: indexed(address)
    assets: uint256
    shares: uint256

event Withdraw:
    sender: indexed(address)
    receiver: indexed(address)
    owner: indexed(address)
    assets: uint256
    shares: uint256

decimals: public(constant(uint8)) = 18
ONE: constant(uint256) = 10**18

issuer: public(immutable(address))
symbol: public(String[32])
ratio: public(uint256)
asset: public(address)
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
def set_asset(asset: address):
    assert msg.sender == issuer
    self.asset = asset


@external
@view
def previewDeposit(assets: uint256) -> uint256:
    return assets * ONE // self.ratio


@external
@view
def previewRedeem(shares: uint256) -> uint256:
    return shares * self.ratio // ONE


@external
def deposit(assets: uint256, receiver: address) -> uint256:
    """Take what is inside, and give shares for it, rounded down."""
    shares: uint256 = assets * ONE // self.ratio
    assert extcall Inside(self.asset).transferFrom(msg.sender, self, assets)
    self.totalSupply += shares
    self.balanceOf[receiver] += shares
    log Transfer(sender=empty(address), receiver=receiver, value=shares)
    log Deposit(sender=msg.sender, owner=receiver, assets=assets, shares=shares)
    return shares


@external
def redeem(shares: uint256, receiver: address, owner: address) -> uint256:
    """Take shares of the sender's own, and give what is inside for them, rounded down."""
    assert msg.sender == owner, "ERC4626: redeem more than max"
    assets: uint256 = shares * self.ratio // ONE
    self.balanceOf[owner] -= shares
    self.totalSupply -= shares
    log Transfer(sender=owner, receiver=empty(address), value=shares)
    log Withdraw(sender=msg.sender, receiver=receiver, owner=owner, assets=assets, shares=shares)
    assert extcall Inside(self.asset).transfer(receiver, assets)
    return assets


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
