/** The options of `streamTickets()`: what they mean, their defaults and their checks. */
import type { Context } from 'koa'
import { got } from '../lib/errors.js'
import { aBoolean, isRecord, isWhole, type Rule, resolve, whole } from '../lib/rules.js'
import type { ClientPool } from '../pool/pool.js'

export type TicketSecret = string | Uint8Array

/** Why a ticket was refused. The client is told nothing but 401. */
export type TicketRefusal =
  /** There is none in the query. */
  | 'missing'
  /** There are several: `?ticket=a&ticket=b`. */
  | 'repeated'
  /** Longer than any that `issue` gives. */
  | 'too-long'
  /** It is not what `issue` gives; a resume cookie's value is none either. */
  | 'malformed'
  /** Signed by another algorithm than HS256, or by none. */
  | 'algorithm'
  /** Signed with a secret that is not in the list, or changed since. */
  | 'signature'
  /** Made for another `audience`. */
  | 'audience'
  /** Of the future: the clock of the process that issued it is ahead. */
  | 'not-yet-valid'
  /** Older than `ttl`, and never spent by who brings it now. */
  | 'expired'
  /** The page that asks is not of the origin that it was issued to. */
  | 'origin'
  /** Redeemed before, and who brings it now does not have the cookie that was given then. */
  | 'spent'
  /** The cookie that comes with it is another ticket's, expired, or changed. */
  | 'cookie'
  /** `authorize` said no. */
  | 'revoked'

export interface StreamTicketsOptions {
  /** By whose log it is known, on all processes, that a ticket is spent. */
  pool: Pick<ClientPool, 'claim'>
  /**
   * What tickets are signed with: at least 32 bytes, the same in all processes. Of a list the first
   * signs and all verify, so that a new one can be put in front of the old one.
   */
  secret: TicketSecret | readonly TicketSecret[]
  /** Milliseconds in which a ticket can be redeemed. Default 30 000, at most an hour. */
  ttl?: number | undefined
  /**
   * Milliseconds for which the cookie lets the same browser come back with a spent ticket, counted
   * anew each time. Default 3 600 000; `false` gives no cookie, so that each reconnect needs a ticket.
   */
  resumeFor?: number | false | undefined
  /** Who the tickets are for. Tickets for one are refused by others. Default `'koa-sse-pool'`. */
  audience?: string | undefined
  /** The name of the query parameter. Default `'ticket'`. */
  query?: string | undefined
  cookie?: TicketCookieOptions | undefined
  /**
   * Asked whenever a client comes with a good ticket, also when it comes back; `false` refuses it. A
   * client that the pool's own `authorize` has cut off would otherwise be back a moment later.
   */
  authorize?: ((id: string, ctx: Context) => boolean | Promise<boolean>) | undefined
  /** Told of each ticket that is refused. Default: a line by `console.warn`, without the ticket. */
  onRefused?: ((why: TicketRefusal, ctx: Context) => void) | undefined
}

export interface TicketCookieOptions {
  /** What the cookies' names begin with. Default `'sse'`. */
  name?: string | undefined
  /** Default: the path of the request. To be given where a proxy takes away a part of it. */
  path?: string | undefined
  /** `'lax'` (default), `'strict'`, or `'none'` for pages of another site, which implies `Secure`. */
  sameSite?: 'lax' | 'strict' | 'none' | undefined
  /** A jar for each site that embeds the page; implies `Secure`. Default `false`. */
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

/** As many as HS256 makes of it; a shorter one can be guessed from a single ticket (RFC 7518, 3.2). */
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
    expected: 'a function from an id to a boolean',
    accepts: value => value === undefined || typeof value === 'function',
  },
  onRefused: {
    default: (why: TicketRefusal) => console.warn(`koa-sse-pool: a ticket was refused: ${why}`),
    expected: 'a function that is told why',
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
    // Anything else could end the attribute, and begin another.
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

/** Its size alone: errors end up in logs. */
function gotSecret(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(gotSecret).join(', ')}]`
  if (typeof value === 'string') return `a string of ${Buffer.byteLength(value)} bytes`
  if (value instanceof Uint8Array) return `${value.length} bytes`
  return got(value)
}
