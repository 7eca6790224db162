// What a call that a wallet is asked to sign does, by its bytes; and whether that is what the page says it does.

const APPROVE = "095ea7b3";
const SET_DELEGATE = "ca5eb5e1";
const REMOVE_DELEGATE = "36fb8b15";
const BALANCE_OF = "70a08231";
const ALLOWANCE = "dd62ed3e";
const DELEGATIONS = "bffe3486";
export const SELECTORS = {
  "approve(address,uint256)": APPROVE,
  "setDelegate(address)": SET_DELEGATE,
  "removeDelegate()": REMOVE_DELEGATE,
  "balanceOf(address)": BALANCE_OF,
  "allowance(address,address)": ALLOWANCE,
  "delegations(address)": DELEGATIONS,
};

// Where real money is, the page knows the contracts by itself: a server that names others is not believed.
export const KNOWN = {
  42161: {
    usdc: "0xaf88d065e77c8cc2239327c5edb3a432268e5831",
    storage: "0xccd5891083a8acd2074690f65d3024e7d13d66e7",
    trading: "0x6d0ba1f9996dbd8885827e1b2e8f6593e7702411",
  },
};

export function checkTerms(terms) {
  const known = KNOWN[terms.chain.id];
  for (const name of known ? Object.keys(known) : []) {
    if (terms[name] !== known[name]) { throw new Error(`The server names ${terms[name]} as ${name}, which it is not.`); }
  }
}

export function unitsOf(text) {
  const found = /^(\d{1,9})(?:\.(\d{1,6}))?$/.exec(String(text).trim());
  if (!found) { throw new Error(`${text} is no amount of USDC.`); }
  return BigInt(found[1]) * 1000000n + BigInt((found[2] || "").padEnd(6, "0"));
}

export function usdcOf(units) {
  const digits = units.toString().padStart(7, "0");
  return `${digits.slice(0, -6)}.${digits.slice(-6)}`.replace(/\.?0+$/, "");
}

function addressOf(word) {
  if (!/^0{24}[0-9a-f]{40}$/.test(word)) { throw new Error("These bytes name no address."); }
  return `0x${word.slice(24)}`;
}

// Raises for bytes that are none of the three calls, or that have anything left over.
export function decode(call) {
  if (call.value !== "0x0") { throw new Error("This call would send ether."); }
  const data = /^0x([0-9a-f]*)$/.exec(call.data);
  const to = /^0x[0-9a-f]{40}$/.exec(call.to);
  if (!data || !to) { throw new Error("These bytes are no call."); }
  const name = data[1].slice(0, 8);
  const words = data[1].slice(8).match(/.{64}/g) || [];
  if (data[1].length !== 8 + 64 * words.length) { throw new Error("These bytes have an odd length."); }
  if (name === APPROVE && words.length === 2) {
    return { kind: "approve", to: call.to, spender: addressOf(words[0]), units: BigInt(`0x${words[1]}`) };
  }
  if (name === SET_DELEGATE && words.length === 1) {
    return { kind: "delegate", to: call.to, delegate: addressOf(words[0]) };
  }
  if (name === REMOVE_DELEGATE && words.length === 0) { return { kind: "undelegate", to: call.to }; }
  throw new Error(`These bytes call ${name || "nothing"}, which this page never asks for.`);
}

// The call, once it does just what is expected of it; raises with the difference.
export function checked(call, expected) {
  const found = decode(call);
  for (const name of Object.keys(expected)) {
    if (found[name] !== expected[name]) {
      throw new Error(`The call's ${name} is ${found[name]}, and ${expected[name]} was agreed. Nothing was signed.`);
    }
  }
  return { to: call.to, data: call.data, value: "0x0" };
}

const padded = (address) => address.slice(2).toLowerCase().padStart(64, "0");
export const balanceOf = (owner) => `0x${BALANCE_OF}${padded(owner)}`;
export const allowance = (owner, spender) => `0x${ALLOWANCE}${padded(owner)}${padded(spender)}`;
export const delegations = (owner) => `0x${DELEGATIONS}${padded(owner)}`;
