# pragma version 0.4.3
"""
@notice The other side of every trade: it pays gains, takes losses and fees, and can be empty.
"""
from ethereum.ercs import IERC20
from modules import parts

initializes: parts
exports: parts.registry

event AssetsSent:
    sender: indexed(address)
    receiver: indexed(address)
    assets: uint256

event AssetsReceived:
    sender: indexed(address)
    user: indexed(address)
    assets: uint256

event RewardDistributed:
    sender: indexed(address)
    assets: uint256
    accRewardsPerToken: uint256

asset: public(immutable(address))
accRewardsPerToken: public(uint256)
totalClosedPnl: public(int256)


@deploy
def __init__(registry_: address, asset_: address):
    parts.__init__(registry_)
    asset = asset_


@internal
@view
def _assets() -> uint256:
    return staticcall IERC20(asset).balanceOf(self)


@external
@view
def totalAssets() -> uint256:
    return self._assets()


@external
@view
def availableAssets() -> uint256:
    return self._assets()


@external
@view
def tvl() -> uint256:
    return self._assets()


@external
def sendAssets(assets: uint256, receiver: address):
    parts.only_callbacks()
    if assets > self._assets():
        raw_revert(method_id("NotEnoughAssets()"))
    self.totalClosedPnl += convert(assets, int256)
    extcall IERC20(asset).transfer(receiver, assets)
    log AssetsSent(sender=msg.sender, receiver=receiver, assets=assets)


@external
def receiveAssets(assets: uint256, user: address):
    parts.only_callbacks()
    self.totalClosedPnl -= convert(assets, int256)
    extcall IERC20(asset).transferFrom(msg.sender, self, assets)
    log AssetsReceived(sender=msg.sender, user=user, assets=assets)


@external
def distributeReward(assets: uint256):
    extcall IERC20(asset).transferFrom(msg.sender, self, assets)
    log RewardDistributed(sender=msg.sender, assets=assets, accRewardsPerToken=self.accRewardsPerToken)


@external
def mmWithdraw(assets: uint256, receiver: address):
    """
    @notice Take assets out without a trade, as in July 2026.
    """
    parts.only_manager()
    extcall IERC20(asset).transfer(receiver, assets)
