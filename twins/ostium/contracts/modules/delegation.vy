# pragma version 0.4.3
"""
@notice A module of trading: one key may act for another's account, but never change who may. A signature gives that too.
"""

event DelegateAdded:
    delegator: indexed(address)
    delegate: indexed(address)

event DelegateRemoved:
    delegator: indexed(address)
    delegate: indexed(address)

DOMAIN: constant(bytes32) = keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)")
DELEGATION: constant(bytes32) = keccak256("Delegation(address delegator,address delegate,uint256 nonce,uint256 expiry)")
MOST_BYTES: constant(uint256) = 4096

delegations: public(HashMap[address, address])
delegatableNonces: public(HashMap[address, uint256])
# Whose account a delegate's call is about, while it runs.
acts_for: address


@internal
@view
def sender() -> address:
    return msg.sender if self.acts_for == empty(address) else self.acts_for


@external
@view
def _msgSender() -> address:
    return self.sender()


@internal
@view
def _domain() -> bytes32:
    return keccak256(abi_encode(DOMAIN, keccak256("Ostium"), keccak256("1"), chain.id, self))


@external
@view
def DOMAIN_SEPARATOR() -> bytes32:
    return self._domain()


@external
@pure
def DELEGATION_TYPEHASH() -> bytes32:
    return DELEGATION


@internal
def _set(delegator: address, delegate: address):
    self.delegatableNonces[delegator] += 1
    self.delegations[delegator] = delegate
    log DelegateAdded(delegator=delegator, delegate=delegate)


@external
def setDelegate(delegate: address):
    if delegate == empty(address):
        raw_revert(method_id("NullAddr()"))
    self._set(msg.sender, delegate)


@external
def setDelegateWithSignature(
    delegator: address, delegate: address, nonce: uint256, expiry: uint256, v: uint8, r: bytes32, s: bytes32
):
    if delegate == empty(address):
        raw_revert(method_id("NullAddr()"))
    if block.timestamp > expiry:
        raw_revert(method_id("SignatureExpired()"))
    if nonce != self.delegatableNonces[delegator]:
        raw_revert(method_id("InvalidNonce()"))
    said: bytes32 = keccak256(abi_encode(DELEGATION, delegator, delegate, nonce, expiry))
    signer: address = ecrecover(keccak256(concat(b"\x19\x01", self._domain(), said)), v, r, s)
    if signer == empty(address) or signer != delegator:
        raw_revert(method_id("InvalidSignature()"))
    self._set(delegator, delegate)


@external
def removeDelegate():
    delegate: address = self.delegations[msg.sender]
    if delegate == empty(address):
        raw_revert(abi_encode(msg.sender, method_id=method_id("NoDelegate(address)")))
    self.delegatableNonces[msg.sender] += 1
    self.delegations[msg.sender] = empty(address)
    log DelegateRemoved(delegator=msg.sender, delegate=delegate)


@external
def delegatedAction(trader: address, call_data: Bytes[MOST_BYTES]) -> Bytes[MOST_BYTES]:
    if self.acts_for != empty(address):
        raw_revert(method_id("DelegateReentrant()"))
    if self.delegations[trader] != msg.sender:
        raw_revert(abi_encode(trader, msg.sender, method_id=method_id("NotDelegate(address,address)")))
    if len(call_data) < 4:
        raw_revert(method_id("InvalidCallData()"))
    name: Bytes[4] = slice(call_data, 0, 4)
    if (
        name == method_id("setDelegate(address)")
        or name == method_id("removeDelegate()")
        or name == method_id("setDelegateWithSignature(address,address,uint256,uint256,uint8,bytes32,bytes32)")
        or name == method_id("delegatedAction(address,bytes)")
    ):
        raw_revert(method_id("DelegateForbidden()"))
    self.acts_for = trader
    done: bool = False
    result: Bytes[MOST_BYTES] = b""
    done, result = raw_call(self, call_data, max_outsize=MOST_BYTES, is_delegate_call=True, revert_on_failure=False)
    if not done:
        if len(result) > 0:
            raw_revert(result)
        raw_revert(method_id("DelegatedActionFailed()"))
    self.acts_for = empty(address)
    return result
