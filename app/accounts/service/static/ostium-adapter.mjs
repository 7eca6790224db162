// The plan's adapter: its four functions, and the cancelling of orders that wait, over the service of managed accounts. No key is sent: a token says who asks.

const settings = {
  url: typeof process === "undefined" ? "" : (process.env.OSTIUM_SERVICE_URL || "http://localhost:5002"),
  token: "",
};

export class OstiumRefusal extends Error {
  constructor(status, text) {
    super(text);
    this.name = "OstiumRefusal";
    this.status = status;
  }
}

export function connectOstium(given) {
  Object.assign(settings, given);
}

async function asked(path, body, key) {
  const headers = { "Content-Type": "application/json", Authorization: `Bearer ${settings.token}` };
  if (key !== undefined) { headers["Idempotency-Key"] = key; }
  const response = await fetch(`${settings.url.replace(/\/$/, "")}${path}`, {
    method: "POST", headers, body: JSON.stringify(body),
  });
  const answer = await response.json();
  if (!response.ok) { throw new OstiumRefusal(response.status, answer.error || `HTTP ${response.status}`); }
  return answer;
}

// One act under one key: what is lost on the way, or is not over yet, is asked for again by the same key, and is done once.
async function done(path, params) {
  const { idempotencyKey = crypto.randomUUID(), ...body } = params;
  for (let tries = 1; ; tries += 1) {
    try {
      const answer = await asked(path, body, idempotencyKey);
      if (!answer.pending || tries === 3) { return answer; }
    } catch (fault) {
      const again = fault instanceof TypeError || (fault instanceof OstiumRefusal && fault.status === 503);
      if (!again || tries === 3) { throw fault; }
      await new Promise((ready) => setTimeout(ready, 500 * tries));
    }
  }
}

export function openOstiumPosition(params) {
  return done("/open-position", params);
}

export function closeOstiumPosition(params) {
  return done("/close-position", params);
}

export function cancelOstiumOrder(params) {
  return done("/cancel-order", params);
}

export async function getOstiumPositions(address) {
  return (await asked("/positions", { address })).positions;
}

export function getOstiumBalance(address) {
  return asked("/balance", { address });
}
