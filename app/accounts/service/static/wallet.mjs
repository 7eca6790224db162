// The user's own wallet: found by EIP-6963, asked by EIP-1193. It signs; this page never has a key.

const WAIT_MS = 120000;
const POLL_MS = 400;

// Calls `found` with {name, provider} for each wallet of this browser, once.
export function findWallets(found) {
  const known = new Set();
  window.addEventListener("eip6963:announceProvider", (event) => {
    const { info, provider } = event.detail;
    if (known.has(info.uuid)) { return; }
    known.add(info.uuid);
    found({ name: info.name, provider });
  });
  window.dispatchEvent(new Event("eip6963:requestProvider"));
  if (known.size === 0 && window.ethereum) { found({ name: "Wallet of this browser", provider: window.ethereum }); }
}

export function wordsOf(fault) {
  if (fault && fault.code === 4001) { return "You refused it in your wallet. Nothing was signed."; }
  return (fault && fault.message) || String(fault);
}

export async function accountOf(provider) {
  const [account] = await provider.request({ method: "eth_requestAccounts" });
  if (!account) { throw new Error("The wallet named no account."); }
  return account.toLowerCase();
}

export async function switchTo(provider, chain) {
  const chainId = `0x${chain.id.toString(16)}`;
  const isThere = async () => Number(await provider.request({ method: "eth_chainId" })) === chain.id;
  if (await isThere()) { return; }
  try {
    await provider.request({ method: "wallet_switchEthereumChain", params: [{ chainId }] });
  } catch (fault) {
    if (fault.code !== 4902) { throw fault; }
    await provider.request({
      method: "wallet_addEthereumChain",
      params: [{
        chainId, chainName: chain.name, rpcUrls: [chain.rpcUrl],
        nativeCurrency: { name: "Ether", symbol: "ETH", decimals: 18 },
      }],
    });
  }
  if (!await isThere()) { throw new Error(`The wallet stays on another chain than ${chain.name}.`); }
}

export function signedText(provider, account, text) {
  const bytes = [...new TextEncoder().encode(text)].map((one) => one.toString(16).padStart(2, "0")).join("");
  return provider.request({ method: "personal_sign", params: [`0x${bytes}`, account] });
}

export async function read(provider, to, data) {
  const found = await provider.request({ method: "eth_call", params: [{ to, data }, "latest"] });
  if (!/^0x[0-9a-f]{64}$/i.test(found)) { throw new Error("The chain's answer is none."); }
  return BigInt(found);
}

// Has the wallet sign and send a call, and waits until it is in a block.
export async function sent(provider, from, chain, call) {
  await switchTo(provider, chain);
  const hash = await provider.request({ method: "eth_sendTransaction", params: [{ from, ...call }] });
  const end = Date.now() + WAIT_MS;
  while (Date.now() < end) {
    const receipt = await provider.request({ method: "eth_getTransactionReceipt", params: [hash] });
    if (receipt) {
      if (Number(receipt.status) !== 1) { throw new Error(`The chain refused the transaction ${hash}.`); }
      return;
    }
    await new Promise((ready) => setTimeout(ready, POLL_MS));
  }
  throw new Error(`The transaction ${hash} is in no block yet: reload the page later and see.`);
}
