// Sends and confirms by websocket with the unmodified @solana/web3.js, and prints one JSON object of what it saw.
// Usage: node confirm.mjs NODE_URL SECRET_KEY_HEX [WS_URL]
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [url, secret, socket] = process.argv.slice(2);
const require = createRequire(pathToFileURL(`${process.env.NODE_FOLDER ?? import.meta.dirname}/`));
const { Connection, Keypair, PublicKey, SystemProgram, Transaction, TransactionExpiredBlockheightExceededError } =
  require("@solana/web3.js");

const connection = new Connection(url, { commitment: "confirmed", ...(socket ? { wsEndpoint: socket } : {}) });
const payer = Keypair.fromSecretKey(Buffer.from(secret, "hex"));
const receiver = Keypair.generate().publicKey;
const seen = {};
const polled = new Set();

// What confirms must come over the socket: count what is asked by HTTP meanwhile.
const ask = connection._rpcRequest;
connection._rpcRequest = (method, args) => {
  polled.add(method);
  return ask(method, args);
};

const within = (what, promise, ms = 20000) =>
  Promise.race([
    promise,
    new Promise((_, fail) => setTimeout(() => fail(new Error(`no ${what} within ${ms} ms`)), ms).unref()),
  ]);

const slots = [];
const slotId = connection.onSlotChange((slot) => slots.push(slot));
let changed;
const accountChange = new Promise((done) => (changed = done));
const accountId = connection.onAccountChange(receiver, (account, context) => changed([account.lamports, context.slot]), {
  commitment: "confirmed",
});

const transfer = async (lamports) => {
  const latest = await connection.getLatestBlockhash("confirmed");
  const tx = new Transaction({ feePayer: payer.publicKey, ...latest }).add(
    SystemProgram.transfer({ fromPubkey: payer.publicKey, toPubkey: receiver, lamports }),
  );
  tx.sign(payer);
  return [tx, latest];
};

const [tx, latest] = await transfer(1_000_000_000);
const signature = await connection.sendRawTransaction(tx.serialize(), { preflightCommitment: "confirmed" });
polled.clear();
const confirmed = await within("confirmation", connection.confirmTransaction({ signature, ...latest }, "confirmed"));
seen.confirmed = { err: confirmed.value.err, slot: confirmed.context.slot, polled: [...polled] };
seen.account = await within("account change", accountChange);

// One that is confirmed already is confirmed again at once, and finalized in its time.
const again = await within("second confirmation", connection.confirmTransaction({ signature, ...latest }, "confirmed"));
seen.again = again.value.err;
const finalized = await within("finality", connection.confirmTransaction({ signature, ...latest }, "finalized"), 60000);
seen.finalized = { err: finalized.value.err, slot: finalized.context.slot };

// A transaction that landed and failed says so.
const [failing, its] = await transfer(10_000_000_000_000);
const failed = await connection.sendRawTransaction(failing.serialize(), { skipPreflight: true });
seen.failed = (await within("failure", connection.confirmTransaction({ signature: failed, ...its }, "confirmed"))).value.err;

// One that never lands ends when its blockhash does.
const [lost, dead] = await transfer(5);
const never = Buffer.from(lost.signature);
const { default: bs58 } = await import(pathToFileURL(require.resolve("bs58")).href);
const expired = connection.confirmTransaction(
  { signature: bs58.encode(never), blockhash: dead.blockhash, lastValidBlockHeight: (await connection.getBlockHeight("confirmed")) + 4 },
  "confirmed",
);
seen.expired = await within("expiry", expired).then(
  () => "confirmed",
  (error) => (error instanceof TransactionExpiredBlockheightExceededError ? "expired" : String(error)),
);

const block = await connection.getBlock(seen.confirmed.slot, { maxSupportedTransactionVersion: 0 });
const landed = await connection.getTransaction(signature, { maxSupportedTransactionVersion: 0 });
const its_block = await connection.getBlock(landed.slot, { maxSupportedTransactionVersion: 0 });
seen.block = {
  height: its_block.blockHeight - block.blockHeight,
  holds: its_block.transactions.map((one) => one.transaction.signatures[0]).includes(signature),
  parent: its_block.parentSlot < landed.slot,
};
seen.signatures = (await connection.getBlockSignatures(landed.slot, "confirmed")).signatures.includes(signature);
seen.slots = { count: slots.length, rising: slots.every((one, at) => !at || one.slot > slots[at - 1].slot) };
await connection.removeSlotChangeListener(slotId);
await connection.removeAccountChangeListener(accountId);
seen.receiver = String(new PublicKey(receiver)) === String(receiver);
console.log(JSON.stringify(seen));
process.exit(0);
