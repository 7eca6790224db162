// The user's own wallet: found by EIP-6963, asked by EIP-1193. It signs; this page never has a key.

const WAIT_MS = 120000;
const POLL_MS = 400;

// Calls `found` with {name, provider} for each wallet of this browser, once: some announce themselves again under another
// number, beside a second copy of theirs, or are the browser's own (`window.ethereum`) and say so later.
export function findWallets(found) {
  const known = new Set();
  window.addEventListener("eip6963:announceProvider", (event) => {
    const { info, provider } = event.detail;
    const marks = [info.uuid, info.rdns, provider].filter(Boolean);
    if (marks.some((one) => known.has(one))) { return; }
    marks.forEach((one) => known.add(one));
    found({ name: info.name, provider });
  });
  window.dispatchEvent(new Event("eip6963:requestProvider"));
  if (known.size === 0 && window.ethereum) {
    known.add(window.ethereum);
    found({ name: "Wallet of this browser", provider: window.ethereum });
  }
}

// What a wallet means by its fault: some put the real number into another one.
function numberOf(fault) {
  const inner = fault && fault.data && fault.data.originalError;
  return (inner && inner.code) || (fault && fault.code);
}

export function wordsOf(fault) {
  if (numberOf(fault) === 4001) { return "You refused it in your wallet. Nothing was signed."; }
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
    // By the book a chain that it does not know is 4902; wallets give other numbers for it, or none. Adding what is there
    // already only switches to it, so whatever was not refused by the person is tried.
    if (numberOf(fault) === 4001) { throw fault; }
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

// Raises where the wallet is locked or shows another account than the page: few wallets say that by themselves.
async function checkAccount(provider, account) {
  const [now] = await provider.request({ method: "eth_accounts" });
  if (!now) { throw new Error("Your wallet is locked: unlock it, then try again."); }
  if (now.toLowerCase() !== account) { throw new Error(`Your wallet shows ${now}, this page ${account}: switch back, or reload.`); }
}

// Has the wallet sign and send a call, and waits until the chain has it: by its receipt, or because what it does stands there
// (`stands`). A wallet that sends it anew for a higher fee, or that is a contract, gives a hash that no block will ever hold.
export async function sent(provider, from, chain, call, stands) {
  await switchTo(provider, chain);
  await checkAccount(provider, from);
  const stood = await stands();
  const hash = await provider.request({ method: "eth_sendTransaction", params: [{ from, ...call }] });
  const end = Date.now() + WAIT_MS;
  while (Date.now() < end) {
    const receipt = await provider.request({ method: "eth_getTransactionReceipt", params: [hash] });
    if (receipt) {
      if (Number(receipt.status) !== 1) { throw new Error(`The chain refused the transaction ${hash}.`); }
      return;
    }
    if (!stood && await stands()) { return; }
    await new Promise((ready) => setTimeout(ready, POLL_MS));
  }
  throw new Error(`The transaction ${hash} is in no block yet: reload the page later and see.`);
}
