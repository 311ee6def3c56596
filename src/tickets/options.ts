/** The options of `streamTickets()`: what they mean, their defaults and their checks. */
import type { Context } from 'koa'
import { got } from '../lib/errors.js'
import { aBoolean, isRecord, isWhole, type Rule, resolve, whole } from '../lib/rules.js'
import type { ClientPool } from '../pool/pool.js'

/** At least 32 bytes, such as the output of `openssl rand -base64 32`; a string counts as UTF-8. */
export type TicketSecret = string | Uint8Array

/** Why a ticket was refused. The app gets this; the client gets 401 and nothing else. */
export type TicketRefusal =
  /** The query has no ticket. */
  | 'missing'
  /** The query has several tickets: `?ticket=a&ticket=b`. */
  | 'repeated'
  /** Longer than any ticket that `issue` makes. */
  | 'too-long'
  /** Not a ticket that `issue` made; the value of a resume cookie is not one either. */
  | 'malformed'
  /** Signed by an algorithm other than HS256, or not signed. */
  | 'algorithm'
  /** Changed, or signed with a secret that is not in the list. */
  | 'signature'
  /** Issued for another `audience`. */
  | 'audience'
  /** Issued in the future: the clock of the issuing process is more than 5 seconds ahead. */
  | 'not-yet-valid'
  /** Older than `ttl`, and the request brings no cookie for it; or its `expiresAt` has passed. */
  | 'expired'
  /** The request comes from another origin than the one that the ticket was issued to. */
  | 'origin'
  /** Already redeemed, and the request does not bring the cookie that was set then. */
  | 'spent'
  /** The request brings a cookie for this ticket, but it has expired, was changed, or is another's. */
  | 'cookie'
  /** `authorize` returned false. */
  | 'revoked'

/** Options of {@link streamTickets}. */
export interface StreamTicketsOptions {
  /** The pool of the stream's route. Its log records, for all processes, which tickets are spent. */
  pool: Pick<ClientPool, 'claim'>
  /**
   * Signs the tickets and cookies: at least 32 bytes, the same in all processes. In a list the first
   * secret signs and all of them verify; to replace a secret, put the new one in front. No default.
   */
  secret: TicketSecret | readonly TicketSecret[]
  /** Milliseconds after `issue` in which a ticket can be redeemed. Default 30 000, at most 3 600 000. */
  ttl?: number | undefined
  /**
   * Milliseconds for which the cookie lets the same browser reconnect with its spent ticket, counted
   * from its latest connection. Default 3 600 000, at least 1000. `false` sets no cookie, so each
   * reconnect needs a new ticket.
   */
  resumeFor?: number | false | undefined
  /**
   * Distinguishes the tickets of several apps with one secret: a ticket issued for one audience is
   * refused by all others. 1 to 256 characters. Default `'koa-sse-pool'`.
   */
  audience?: string | undefined
  /** The query parameter that holds the ticket. Default `'ticket'`. */
  query?: string | undefined
  /** The name and attributes of the cookie. Default `{}`; see {@link TicketCookieOptions}. */
  cookie?: TicketCookieOptions | undefined
  /**
   * Called for each request with a good ticket, reconnects included; `false` refuses it with 401, and
   * an error that it throws is a 500. May be async. Default: every client may connect. Give the pool's
   * `authorize` the same rule: otherwise a client that it cuts off reconnects a moment later.
   */
  authorize?: ((id: string, ctx: Context) => boolean | Promise<boolean>) | undefined
  /**
   * Called for each refused ticket. An error that it throws is emitted by the Koa app.
   * Default: logs the reason by `console.warn`, without the ticket.
   */
  onRefused?: ((why: TicketRefusal, ctx: Context) => void) | undefined
}

/** The cookie by which a browser reconnects with its spent ticket. */
export interface TicketCookieOptions {
  /** What the cookies' names begin with: 1 to 64 letters, digits, `_` and `-`. Default `'sse'`. */
  name?: string | undefined
  /** Default: the path of the request. Set it if a proxy removes a part of the path. */
  path?: string | undefined
  /**
   * `'lax'` (default), `'strict'`, or `'none'` for pages of another site. `'none'` also sets `Secure`,
   * without which browsers would drop the cookie.
   */
  sameSite?: 'lax' | 'strict' | 'none' | undefined
  /**
   * `true`: browsers keep the cookie separately for each site that embeds the page (CHIPS). This also
   * sets `Secure`. Default `false`.
   */
  partitioned?: boolean | undefined
}

export interface ResolvedTicketsOptions {
  readonly pool: Pick<ClientPool, 'claim'>
  readonly secrets: readonly Uint8Array[]
  readonly ttl: number
  readonly resumeFor: number | false
  readonly audience: string
  readonly query: string
  readonly cookie: ResolvedCookieOptions
  readonly authorize: StreamTicketsOptions['authorize']
  readonly onRefused: (why: TicketRefusal, ctx: Context) => void
}

export interface ResolvedCookieOptions {
  readonly name: string
  readonly path: string | undefined
  readonly sameSite: 'lax' | 'strict' | 'none'
  readonly partitioned: boolean
}

const HOUR = 3_600_000

/** As long as the HS256 hash: a shorter secret can be guessed offline from one ticket (RFC 7518, 3.2). */
const SECRET_BYTES = 32

const aName = (fallback: string): Rule => ({
  default: fallback,
  expected: 'a string of 1 to 256 characters',
  accepts: value => typeof value === 'string' && value !== '' && value.length <= 256,
})

const RULES: Record<keyof StreamTicketsOptions, Rule> = {
  pool: {
    expected: 'a ClientPool',
    accepts: value => isRecord(value) && typeof value.claim === 'function',
  },
  secret: {
    expected: `a string or Uint8Array of at least ${SECRET_BYTES} bytes, or a list of them, such as the output of "openssl rand -base64 32"`,
    accepts: value =>
      Array.isArray(value) ? value.length > 0 && value.every(isSecret) : isSecret(value),
    got: gotSecret,
  },
  ttl: whole(30_000, HOUR, 'milliseconds, '),
  resumeFor: {
    default: HOUR,
    expected: 'milliseconds, a whole number of at least 1000, or false for no cookie',
    accepts: value => value === false || isWhole(value, 1000, 2 ** 31 - 1),
  },
  audience: aName('koa-sse-pool'),
  query: aName('ticket'),
  cookie: {
    default: {},
    expected: "an object such as { sameSite: 'none' }",
    accepts: isRecord,
  },
  authorize: {
    expected: 'a function such as id => sessions.has(id)',
    accepts: value => value === undefined || typeof value === 'function',
  },
  onRefused: {
    default: (why: TicketRefusal) => console.warn(`koa-sse-pool: a ticket was refused: ${why}`),
    expected: 'a function such as (why, ctx) => logger.warn(why)',
    accepts: value => typeof value === 'function',
  },
}

const COOKIE_RULES: Record<keyof TicketCookieOptions, Rule> = {
  name: {
    default: 'sse',
    expected: 'letters, digits, _ and -',
    accepts: value => typeof value === 'string' && /^[\w-]{1,64}$/.test(value),
  },
  path: {
    expected: "a path such as '/event'",
    // Any other character, such as ";", could start another attribute of the cookie.
    accepts: value =>
      value === undefined || (typeof value === 'string' && /^\/[\x21-\x3a\x3c-\x7e]*$/.test(value)),
  },
  sameSite: {
    default: 'lax',
    expected: "'lax', 'strict' or 'none'",
    accepts: value => ['lax', 'strict', 'none'].includes(value as string),
  },
  partitioned: aBoolean(false),
}

export function resolveTicketsOptions(given: StreamTicketsOptions): ResolvedTicketsOptions {
  const where = 'streamTickets()'
  const { secret, ...resolved } = resolve(where, RULES, given)
  const cookie = resolve(`${where}: cookie`, COOKIE_RULES, resolved.cookie)
  const secrets = (Array.isArray(secret) ? secret : [secret]).map(bytesOf)
  return { ...resolved, secrets, cookie } as unknown as ResolvedTicketsOptions
}

function bytesOf(secret: TicketSecret): Uint8Array {
  return typeof secret === 'string' ? Buffer.from(secret) : Buffer.from(secret)
}

function isSecret(value: unknown): boolean {
  return (
    (typeof value === 'string' || value instanceof Uint8Array) &&
    bytesOf(value).length >= SECRET_BYTES
  )
}

/** Only its size, because error messages end up in logs. */
function gotSecret(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(gotSecret).join(', ')}]`
  if (typeof value === 'string') return `a string of ${Buffer.byteLength(value)} bytes`
  if (value instanceof Uint8Array) return `${value.length} bytes`
  return got(value)
}
