# pragma version 0.4.3
"""
@notice The order book as its readers and its vaults' owner meet it: it says what trades were, with the published contract's
        events, and keeps vaults. What a trade amounts to is said by who calls; no interpreter is asked.
@dev    Amounts in events are packed decimals: a signed exponent in the top 32 bits, a signed coefficient in the others.
        Vaults are kept in a token's smallest units: what is below them is left out here, and not in the events.
"""

interface Token:
    def transfer(to: address, amount: uint256) -> bool: nonpayable
    def transferFrom(sender: address, to: address, amount: uint256) -> bool: nonpayable
    def decimals() -> uint8: view

struct Evaluable:
    interpreter: address
    store: address
    bytecode: Bytes[512]

struct IO:
    token: address
    vaultId: bytes32

struct Order:
    owner: address
    evaluable: Evaluable
    validInputs: DynArray[IO, 4]
    validOutputs: DynArray[IO, 4]
    nonce: bytes32

struct SignedContext:
    signer: address
    context: DynArray[bytes32, 4]
    signature: Bytes[65]

struct TakeConfig:
    order: Order
    inputIOIndex: uint256
    outputIOIndex: uint256
    signedContext: DynArray[SignedContext, 2]

struct ClearConfig:
    aliceInputIOIndex: uint256
    aliceOutputIOIndex: uint256
    bobInputIOIndex: uint256
    bobOutputIOIndex: uint256
    aliceBountyVaultId: bytes32
    bobBountyVaultId: bytes32

struct StateChange:
    aliceOutput: bytes32
    bobOutput: bytes32
    aliceInput: bytes32
    bobInput: bytes32

struct Task:
    evaluable: Evaluable
    signedContext: DynArray[SignedContext, 2]

event TakeOrderV3:
    sender: address
    config: TakeConfig
    input: bytes32
    output: bytes32

event ClearV3:
    sender: address
    alice: Order
    bob: Order
    clearConfig: ClearConfig

event AfterClearV2:
    sender: address
    clearStateChange: StateChange

event ContextV2:
    sender: address
    context: DynArray[DynArray[bytes32, 4], 4]

event DepositV2:
    sender: address
    token: address
    vaultId: bytes32
    depositAmountUint256: uint256

event WithdrawV2:
    sender: address
    token: address
    vaultId: bytes32
    targetAmount: bytes32
    withdrawAmount: bytes32
    withdrawAmountUint256: uint256

MOST_DIGITS: constant(int256) = 76
COEFFICIENT: constant(uint256) = 2**224 - 1

vault: HashMap[address, HashMap[address, HashMap[bytes32, uint256]]]


@internal
@pure
def _units(packed: bytes32, decimals: uint8) -> uint256:
    """What a packed amount is in a token's smallest units, the rest left out."""
    word: uint256 = convert(packed, uint256)
    assert (word >> 223) & 1 == 0, "negative"
    coefficient: uint256 = word & COEFFICIENT
    exponent: int256 = convert(word >> 224, int256)
    if exponent >= 2**31:
        exponent -= 2**32
    places: int256 = exponent + convert(decimals, int256)
    if places >= 0:
        assert places <= MOST_DIGITS, "too large"
        return coefficient * 10 ** convert(places, uint256)
    if places < -MOST_DIGITS:
        return 0
    return coefficient // 10 ** convert(-places, uint256)


@internal
@pure
def _packed(units: uint256, decimals: uint8) -> bytes32:
    """A number of smallest units as a packed amount."""
    assert units < 2**223, "too large"
    exponent: uint256 = 0
    if decimals > 0:
        exponent = 2**32 - convert(decimals, uint256)
    return convert((exponent << 224) | units, bytes32)


@internal
def _say_context():
    row: DynArray[bytes32, 4] = [convert(1, bytes32)]
    rows: DynArray[DynArray[bytes32, 4], 4] = [row]
    log ContextV2(sender=msg.sender, context=rows)


@external
def take(config: TakeConfig, taker_input: bytes32, taker_output: bytes32):
    """Say that an order was taken. The amounts are the taker's."""
    self._say_context()
    log TakeOrderV3(sender=msg.sender, config=config, input=taker_input, output=taker_output)


@external
def clear(alice: Order, bob: Order, config: ClearConfig, change: StateChange):
    """Say that two orders were matched."""
    assert alice.owner != bob.owner, "SameOwner"
    log ClearV3(sender=msg.sender, alice=alice, bob=bob, clearConfig=config)
    self._say_context()
    self._say_context()
    log AfterClearV2(sender=msg.sender, clearStateChange=change)


@external
def multicall(calls: DynArray[Bytes[4096], 32]):
    """Make several of these calls in one transaction."""
    for one: Bytes[4096] in calls:
        raw_call(self, one, is_delegate_call=True)


@external
@view
def vaultBalance2(owner: address, token: address, vaultId: bytes32) -> bytes32:
    return self._packed(self.vault[owner][token][vaultId], staticcall Token(token).decimals())


@external
def deposit4(token: address, vaultId: bytes32, depositAmount: bytes32, post: DynArray[Task, 1]):
    assert vaultId != empty(bytes32), "ZeroVaultId"
    units: uint256 = self._units(depositAmount, staticcall Token(token).decimals())
    assert units > 0, "ZeroDepositAmount"
    self.vault[msg.sender][token][vaultId] += units
    log DepositV2(sender=msg.sender, token=token, vaultId=vaultId, depositAmountUint256=units)
    assert extcall Token(token).transferFrom(msg.sender, self, units)


@external
def withdraw4(token: address, vaultId: bytes32, targetAmount: bytes32, post: DynArray[Task, 1]):
    """Give what was asked for, or all that is there where that is less."""
    assert vaultId != empty(bytes32), "ZeroVaultId"
    decimals: uint8 = staticcall Token(token).decimals()
    asked: uint256 = self._units(targetAmount, decimals)
    assert asked > 0, "ZeroWithdrawTargetAmount"
    units: uint256 = min(asked, self.vault[msg.sender][token][vaultId])
    if units == 0:
        return
    self.vault[msg.sender][token][vaultId] -= units
    log WithdrawV2(
        sender=msg.sender,
        token=token,
        vaultId=vaultId,
        targetAmount=targetAmount,
        withdrawAmount=self._packed(units, decimals),
        withdrawAmountUint256=units,
    )
    assert extcall Token(token).transfer(msg.sender, units)
