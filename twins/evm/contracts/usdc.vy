# pragma version 0.4.3
"""
@notice A dollar of six decimals, with the rules, words and events of Circle's token on Arbitrum: ERC-20, EIP-2612, a list of
        blocked addresses, and an issuer who makes it.
"""

event Transfer:
    sender: indexed(address)
    receiver: indexed(address)
    value: uint256

event Approval:
    owner: indexed(address)
    spender: indexed(address)
    value: uint256

name: public(constant(String[8])) = "USD Coin"
symbol: public(constant(String[4])) = "USDC"
version: public(constant(String[1])) = "2"
decimals: public(constant(uint8)) = 6
PERMIT: constant(bytes32) = keccak256("Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)")
DOMAIN: constant(bytes32) = keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)")

issuer: public(immutable(address))
totalSupply: public(uint256)
balanceOf: public(HashMap[address, uint256])
allowance: public(HashMap[address, HashMap[address, uint256]])
nonces: public(HashMap[address, uint256])
isBlacklisted: public(HashMap[address, bool])


@deploy
def __init__():
    issuer = msg.sender


@external
@view
def DOMAIN_SEPARATOR() -> bytes32:
    return self._domain()


@internal
@view
def _domain() -> bytes32:
    return keccak256(abi_encode(DOMAIN, keccak256("USD Coin"), keccak256("2"), chain.id, self))


@external
def mint(receiver: address, amount: uint256):
    assert msg.sender == issuer, "FiatToken: caller is not a minter"
    self.totalSupply += amount
    self.balanceOf[receiver] += amount
    log Transfer(sender=empty(address), receiver=receiver, value=amount)


@external
def blacklist(account: address, blocked: bool):
    assert msg.sender == issuer, "Blacklistable: caller is not the blacklister"
    self.isBlacklisted[account] = blocked


@internal
def _move(sender: address, receiver: address, amount: uint256):
    assert not self.isBlacklisted[sender], "Blacklistable: account is blacklisted"
    assert not self.isBlacklisted[receiver], "Blacklistable: account is blacklisted"
    assert receiver != empty(address), "ERC20: transfer to the zero address"
    assert self.balanceOf[sender] >= amount, "ERC20: transfer amount exceeds balance"
    self.balanceOf[sender] -= amount
    self.balanceOf[receiver] += amount
    log Transfer(sender=sender, receiver=receiver, value=amount)


@external
def transfer(to: address, amount: uint256) -> bool:
    self._move(msg.sender, to, amount)
    return True


@external
def transferFrom(sender: address, to: address, amount: uint256) -> bool:
    assert self.allowance[sender][msg.sender] >= amount, "ERC20: transfer amount exceeds allowance"
    self.allowance[sender][msg.sender] -= amount
    self._move(sender, to, amount)
    return True


@internal
def _approve(owner: address, spender: address, amount: uint256):
    self.allowance[owner][spender] = amount
    log Approval(owner=owner, spender=spender, value=amount)


@external
def approve(spender: address, amount: uint256) -> bool:
    assert not self.isBlacklisted[msg.sender], "Blacklistable: account is blacklisted"
    self._approve(msg.sender, spender, amount)
    return True


@external
def permit(owner: address, spender: address, amount: uint256, deadline: uint256, v: uint8, r: bytes32, s: bytes32):
    assert deadline >= block.timestamp, "FiatTokenV2: permit is expired"
    struct_hash: bytes32 = keccak256(abi_encode(PERMIT, owner, spender, amount, self.nonces[owner], deadline))
    self.nonces[owner] += 1
    digest: bytes32 = keccak256(concat(b"\x19\x01", self._domain(), struct_hash))
    signed_by: address = ecrecover(digest, v, r, s)
    assert signed_by != empty(address) and signed_by == owner, "EIP2612: invalid signature"
    self._approve(owner, spender, amount)
