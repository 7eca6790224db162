// The page for users: connect, sign three steps, watch the trades, pause, revoke. Every call is checked before it is signed.

import {
  cancelOstiumOrder, closeOstiumPosition, connectOstium, getOstiumBalance, getOstiumPositions, openOstiumPosition,
} from "/static/accounts/ostium-adapter.mjs";
import {
  allowance, balanceOf, checked, checkTerms, delegations, unitsOf, usdcOf,
} from "/static/accounts/calls.mjs";
import { accountOf, findWallets, read, sent, signedText, switchTo, wordsOf } from "/static/accounts/wallet.mjs";

const REFRESH_MS = 5000;
const NOBODY = `0x${"0".repeat(40)}`;
const by = (id) => document.getElementById(id);
const page = { provider: null, account: "", terms: null, token: "", deployment: null, busy: false };

function say(text, bad = false) {
  by("says").textContent = text;
  by("says").className = bad ? "fault" : "sub";
}

function show(id) {
  by(id).hidden = false;
}

async function ask(path, body) {
  const headers = { "Content-Type": "application/json" };
  if (page.token) { headers.Authorization = `Bearer ${page.token}`; }
  const response = await fetch(path, body === undefined ? { headers } : { method: "POST", headers, body: JSON.stringify(body) });
  const answer = await response.json();
  if (response.status === 401 && page.token) { throw new Error("Your session is over: reload the page and connect again."); }
  if (!response.ok) { throw new Error(answer.error); }
  return answer;
}

// Runs one thing at a time, says what went wrong, and leaves the focus where the person works.
async function act(button, doing) {
  if (page.busy) { return; }
  page.busy = true;
  button.setAttribute("aria-busy", "true");
  try {
    await doing();
  } catch (fault) {
    say(wordsOf(fault), true);
  } finally {
    page.busy = false;
    button.removeAttribute("aria-busy");
  }
}

// --- connecting ---

function offer({ name, provider }) {
  const button = document.createElement("button");
  button.textContent = `Connect ${name}`;
  button.addEventListener("click", () => act(button, () => connect(provider)));
  by("wallets").append(button);
  by("no-wallet").hidden = true;
}

async function connect(provider) {
  say("Your wallet asks whether this page may see your address.");
  page.terms = await ask("/wallet/terms");
  checkTerms(page.terms);
  const account = await accountOf(provider);
  await switchTo(provider, page.terms.chain);
  say("Your wallet asks for a signature that says who you are. It moves nothing.");
  const { nonce, text } = await ask("/wallet/challenge", { address: account });
  if (!text.startsWith(`${location.host} wants you to sign in`)) { throw new Error("The text to sign is not this page's."); }
  const signature = await signedText(provider, account, text);
  const { token } = await ask("/wallet/session", { address: account, nonce, signature });
  Object.assign(page, { provider, account, token });
  connectOstium({ url: "", token });
  for (const event of ["accountsChanged", "chainChanged"]) {
    if (provider.on) { provider.on(event, () => location.reload()); }
  }
  by("account").textContent = account;
  by("connect").hidden = true;
  show("connected");
  document.querySelectorAll("form.choose").forEach((form) => { form.hidden = false; });
  const { deployments } = await ask("/wallet/deployments");
  choose(deployments.find((one) => one.state !== "REVOKED") || deployments[0] || null);
  await refresh();
  by("wallet-title").focus();
  say("Connected.");
}

// --- what stands, by the chain's own word ---

async function refresh() {
  if (!page.account) { return; }
  const { provider, account, terms } = page;
  by("balance").textContent = `${usdcOf(await read(provider, terms.usdc, balanceOf(account)))} USDC`;
  if (!page.deployment) { return; }
  const agent = terms.agents[page.deployment.agent];
  const trades = await read(provider, terms.usdc, allowance(account, terms.storage));
  const share = await read(provider, terms.usdc, allowance(account, terms.collector));
  const delegate = await delegateNow();
  page.seen = [trades > 0n, Boolean(agent) && delegate === agent.key, share > 0n];
  const says = [
    `The chain says: at most ${usdcOf(trades)} USDC can be taken for trades.`,
    delegate === NOBODY ? "The chain says: nobody trades for you." : `The chain says: ${delegate} trades for you.`,
    `The chain says: at most ${usdcOf(share)} USDC can be taken for the share.`,
  ];
  says.forEach((text, place) => {
    by(`state-${place}`).textContent = text;
    by(`step-${place}`).classList.toggle("done", page.seen[place]);
  });
  by("deployment-state").textContent = page.deployment.state;
  by("open-form").hidden = page.deployment.state !== "ACTIVE";
  await showTrades();
}

async function showTrades() {
  const free = await getOstiumBalance(page.account);
  by("available").textContent = `${free.available} USDC can be used, ${free.inTrades} USDC are in trades`;
  const rows = await getOstiumPositions(page.account);
  const now = JSON.stringify(rows);
  if (now === page.shown) { return; }
  page.shown = now;
  by("trades").replaceChildren(...rows.map(tradeRow));
  by("no-trades").hidden = rows.length > 0;
}

function rowOf(figures) {
  const row = document.createElement("tr");
  for (const [label, value] of figures) {
    const cell = document.createElement("td");
    cell.dataset.label = label;
    cell.textContent = value === null ? "unknown" : String(value);
    row.append(cell);
  }
  return row;
}

function buttonOf(text, doing) {
  const button = document.createElement("button");
  button.textContent = text;
  button.addEventListener("click", () => act(button, doing));
  return button;
}

function tradeRow(one) {
  const waits = one.waitsFor !== null;
  const row = rowOf([
    ["Market", one.market], ["Side", one.side], ["State", waits ? `${one.orderType}, waits for ${one.waitsFor}` : one.state], ["Paid, USDC", one.collateral],
    ["Leverage", one.leverage], ["Opened at", one.entryPrice], ["Price now", one.markPrice],
    ["Profit now", one.unrealizedPnl], ["Stop", one.stopLoss === null ? "none yet" : one.stopLoss],
  ]);
  const cell = document.createElement("td");
  if (one.state === "OPEN") { cell.append(buttonOf(`Close ${one.market}`, () => close(one))); }
  if (waits) { cell.append(buttonOf(`Cancel ${one.market}`, () => cancel(one))); }
  row.append(cell);
  return row;
}

// --- an agent, and its three steps ---

function choose(deployment) {
  page.deployment = deployment;
  if (!deployment) { return; }
  const agent = page.terms.agents[deployment.agent];
  show("deployed");
  by("deployment-agent").textContent = deployment.agent;
  by("limits").textContent = `at most ${deployment.collateral} USDC a trade, at most ${deployment.leverage} times`;
  if (!agent) { say(`Agent ${deployment.agent} is not served here.`, true); return; }
  by("agent-key").textContent = agent.key;
  by("share-words").textContent = `${agent.share * 100} %`;
}

async function deploy(form) {
  const values = Object.fromEntries(new FormData(form));
  choose(await ask("/wallet/deployments", values));
  await refresh();
  by("steps-title").focus();
  say("Stored. Nothing is traded until you have signed the three steps.");
}

function expectations() {
  const { terms, deployment } = page;
  return [
    { kind: "approve", to: terms.usdc, spender: terms.storage, units: unitsOf(by("cap-trades").value) },
    { kind: "delegate", to: terms.trading, delegate: terms.agents[deployment.agent].key },
    { kind: "approve", to: terms.usdc, spender: terms.collector, units: unitsOf(by("cap-share").value) },
  ];
}

async function delegateNow() {
  const found = await read(page.provider, page.terms.trading, delegations(page.account));
  return `0x${found.toString(16).padStart(40, "0")}`;
}

// Whether what a call does stands on the chain.
function stands(expected) {
  return async () => {
    if (expected.kind === "approve") {
      return await read(page.provider, expected.to, allowance(page.account, expected.spender)) === expected.units;
    }
    return await delegateNow() === (expected.delegate || NOBODY);
  };
}

async function signStep(place) {
  const expected = expectations()[place];
  const { calls } = await ask("/wallet/calls", {
    deployment: page.deployment.deployment, trades: by("cap-trades").value.trim(), share: by("cap-share").value.trim(),
  });
  const call = checked(calls[place], expected);
  say("Your wallet asks you to sign this step.");
  await sent(page.provider, page.account, page.terms.chain, call, stands(expected));
  await refresh();
  say(`Step ${place + 1} is signed, and the chain has it.`);
  if (page.seen.every(Boolean)) { await start(); }
}

async function start() {
  const found = await ask("/wallet/check", { deployment: page.deployment.deployment });
  choose(found);
  await refresh();
  if (found.missing.length) { say(`Still missing: ${found.missing.join("; ")}`, true); return; }
  say(`The agent trades for you now. Deployment ${found.deployment} is ${found.state}.`);
}

async function pause() {
  choose(await ask("/wallet/pause", { deployment: page.deployment.deployment }));
  await refresh();
  say("Paused: nothing is opened for you. What is open is guarded, and can be closed.");
}

async function revoke() {
  const { terms } = page;
  const waiting = (await getOstiumPositions(page.account)).filter((one) => one.waitsFor !== null && one.openedBy === "desk");
  for (const one of waiting) {  // once it is revoked, the agent cannot take them back any more
    await cancel(one);
  }
  const ends = [
    { kind: "undelegate", to: terms.trading },
    { kind: "approve", to: terms.usdc, spender: terms.storage, units: 0n },
    { kind: "approve", to: terms.usdc, spender: terms.collector, units: 0n },
  ];
  const { calls } = await ask("/wallet/revoking", { deployment: page.deployment.deployment });
  const isThere = [page.seen[1], page.seen[0], page.seen[2]];
  for (let place = 0; place < ends.length; place += 1) {
    if (!isThere[place]) { continue; }
    const call = checked(calls[place], ends[place]);
    say(`Your wallet asks you to sign ${place + 1} of 3.`);
    await sent(page.provider, page.account, terms.chain, call, stands(ends[place]));
  }
  choose(await ask("/wallet/check", { deployment: page.deployment.deployment }));
  await refresh();
  say("Revoked: nobody can trade for you, and nobody can take your USDC. Open trades stay yours: close them at the venue.");
}

// --- trades ---

async function open(form) {
  const { size, price, ...values } = Object.fromEntries(new FormData(form));
  const at = values.orderType === "market" ? {} : { price };
  say("The order is on its way; the venue settles it in some seconds.");
  const answer = await openOstiumPosition({ ...values, ...at, collateral: size });
  await refresh();
  const { result } = answer;
  if (answer.pending) { say("The venue has not settled it yet."); return; }
  say(result.waitsFor === null ? `Opened: ${result.market} ${result.side}.` : `Placed: it waits for ${result.waitsFor}.`);
}

async function cancel(one) {
  say("The order is being cancelled.");
  const answer = await cancelOstiumOrder({ trade: one.trade });
  await refresh();
  if (answer.pending) { throw new Error("The chain has not cancelled it yet: try again in a moment."); }
  say(`Cancelled: the venue kept ${-answer.result.realizedPnl} USDC.`);
}

async function close(one) {
  say("The close is on its way.");
  const answer = await closeOstiumPosition({ trade: one.trade });
  await refresh();
  say(answer.pending ? "The venue has not settled it yet." : `Closed with ${answer.closePnl} USDC.`);
}

async function showStatement() {
  const found = await ask("/wallet/statement");
  by("lines").replaceChildren(...found.lines.map((one) => rowOf([
    ["At, UTC", one.at.slice(0, 19).replace("T", " ")], ["What", one.what], ["Market", one.market],
    ["Change, USDC", one.change_usdc], ["Sum, USDC", one.sum_usdc],
  ])));
  show("statement");
  by("statement-sum").textContent = `In all ${found.total_usdc} USDC; owed as share ${found.owed_usdc} USDC.`;
  say(`The statement has ${found.lines.length} lines.`);
}

function onSubmit(form, doing) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    act(form.querySelector("button"), () => doing(form));
  });
}

document.querySelectorAll("form.choose").forEach((form) => onSubmit(form, deploy));
onSubmit(by("open-form"), open);
[0, 1, 2].forEach((place) => {
  const button = by(`sign-${place}`);
  button.addEventListener("click", () => act(button, () => signStep(place)));
});
for (const [id, doing] of [["start", start], ["pause", pause], ["revoke", revoke], ["show-statement", showStatement]]) {
  by(id).addEventListener("click", () => act(by(id), doing));
}
findWallets(offer);
setInterval(() => {
  if (!page.busy && document.visibilityState === "visible") { refresh().catch((fault) => say(wordsOf(fault), true)); }
}, REFRESH_MS);
