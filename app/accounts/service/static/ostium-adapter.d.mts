/** Where the service is, and the token by which it is asked. */
export interface OstiumConnection {
  url?: string;
  token?: string;
}

export interface OstiumPosition {
  trade: string;
  tradeId: string | null;
  market: string;
  side: 'long' | 'short';
  state: 'PENDING' | 'OPEN' | 'CLOSING' | 'STALE';
  /** Units of the asset. */
  size: number;
  entryPrice: number | null;
  markPrice: number | null;
  /** Before what holding and closing cost, USDC. */
  unrealizedPnl: number | null;
  realizedPnl: number;
  /** USDC paid for what is open. */
  collateral: number;
  leverage: number;
  stopLoss: number | null;
  openedBy: 'desk' | 'user';
  /** Of an order that waits for its price: its kind, and the price in USD. */
  orderType: 'limit' | 'stop' | null;
  waitsFor: number | null;
}

export interface OstiumOpen {
  address?: string;
  deployment?: string;
  market: string;
  side: 'long' | 'short';
  /** Units of the asset; or `collateral` in USDC. One of both. */
  size?: number | string;
  collateral?: number | string;
  leverage?: number | string;
  /** At the market where it is left out; a limit or stop waits at the venue for `price`, USD. */
  orderType?: 'market' | 'limit' | 'stop';
  price?: number | string;
  slippageBps?: number;
  takeProfit?: number | string;
  stopLoss?: number | string;
  /** The same key is the same act; one is drawn where none is given. */
  idempotencyKey?: string;
}

export interface OstiumClose {
  address?: string;
  /** One of market, trade and tradeId. */
  market?: string;
  trade?: string;
  tradeId?: string;
  share?: number | string;
  slippageBps?: number;
  idempotencyKey?: string;
}

export interface OstiumCancel {
  trade: string;
  idempotencyKey?: string;
}

export interface OstiumResult {
  success: boolean;
  /** The keeper has not settled it yet. */
  pending?: boolean;
  message?: string;
  /** Of a close, after all fees, USDC. */
  closePnl?: number;
  result?: OstiumPosition & { exitPrice?: number; paid?: number; share?: number; transaction?: string; why?: string };
}

export interface OstiumBalance {
  success: boolean;
  address: string;
  balance: number;
  available: number;
  inTrades: number;
}

/** Why nothing was done, in one line, with the HTTP status. */
export class OstiumRefusal extends Error {
  status: number;
}

export function connectOstium(given: OstiumConnection): void;
export function openOstiumPosition(params: OstiumOpen): Promise<OstiumResult>;
export function closeOstiumPosition(params: OstiumClose): Promise<OstiumResult>;
export function cancelOstiumOrder(params: OstiumCancel): Promise<OstiumResult>;
export function getOstiumPositions(address: string): Promise<OstiumPosition[]>;
export function getOstiumBalance(address: string): Promise<OstiumBalance>;
