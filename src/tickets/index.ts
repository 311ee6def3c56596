/**
 * Tickets for event streams. EventSource cannot send an `Authorization` header, so credentials end up in
 * the URL, and URLs end up in logs, histories and `Referer`. A ticket is worthless there: it opens one
 * connection, within seconds, and can be bound to the page that it was issued to.
 *
 * @module koa-sse-pool/tickets
 */
import { randomBytes } from 'node:crypto'
import type { Context } from 'koa'
import { didYouMean, got, SseError } from '../lib/errors.js'
import { channelName, clientIdOf } from '../lib/names.js'
import { timeOf } from '../lib/time.js'
import { JTI, ResumeCookies } from './cookie.js'
import {
  type ResolvedTicketsOptions,
  resolveTicketsOptions,
  type StreamTicketsOptions,
  type TicketRefusal,
} from './options.js'
import { TokenSigner } from './token-signer.js'

export type {
  StreamTicketsOptions,
  TicketCookieOptions,
  TicketRefusal,
  TicketSecret,
} from './options.js'

/** What a ticket grants. */
export interface TicketGrant {
  /** The client's id, which becomes `ctx.sse.id`: 1 to 256 characters, or a number. */
  id: string | number
  /** The channels that its stream joins. Default: none. */
  channels?: readonly string[] | undefined
  /** The only origin whose pages may use it, such as `'https://app.example'`. Default: any. */
  origin?: string | undefined
  /**
   * When the client's rights end, such as those of the session that the ticket is issued to: a `Date`, or
   * milliseconds since the epoch. Its stream then closes as `expired`, and from then on the ticket is
   * refused, with its cookie too. Default: never.
   */
  expiresAt?: Date | number | undefined
}

/** The option of `sse()` that takes a client's id and channels from its ticket. */
export interface TicketRoute {
  /** Redeems the ticket of a request. Answers 401 if it is refused, 503 if the log is down. */
  identify: (ctx: Context) => Promise<{
    id: string
    channels: readonly string[]
    expiresAt?: number | undefined
  }>
}

/** Issues tickets and redeems them; made by {@link streamTickets}. */
export interface StreamTickets {
  /**
   * Makes a ticket. Give it to a page whose user you have authenticated; the page appends it to the
   * URL of the stream.
   *
   * Rejects with a `TypeError` for a grant that no stream could have, such as an empty id, and for a
   * ticket of more than 4096 characters, which roughly 150 channels reach.
   *
   * @example
   * ```js
   * router.post('/event/ticket', signedIn, async ctx => {
   *   ctx.body = await tickets.issue({ id: ctx.state.user.id, channels: ['orders'] })
   * })
   * ```
   */
  issue(grant: TicketGrant): Promise<string>
  /**
   * Returns the option `identify`, to be spread into the options of `sse()`. It cannot be combined
   * with `id` or `channels`; to add channels, wrap it.
   *
   * @example
   * ```js
   * router.get('/event/push', sse({ pool, ...tickets.redeem() }))
   * ```
   */
  redeem(): TicketRoute
}

/**
 * Lets pages that hold a token instead of a session cookie open a stream, without the token in the URL.
 *
 * @throws TypeError that names the option, if one is missing, unknown or wrong.
 *
 * @example
 * ```js
 * const tickets = streamTickets({ pool, secret: process.env.TICKET_SECRET })
 *
 * router.post('/event/ticket', signedIn, async ctx => {
 *   ctx.body = await tickets.issue({ id: ctx.state.user.id, channels: ['orders'] })
 * })
 * router.get('/event/push', sse({ pool, ...tickets.redeem() }))
 * ```
 */
export function streamTickets(options: StreamTicketsOptions): StreamTickets {
  return new TicketService(resolveTicketsOptions(options))
}

interface Ticket {
  readonly aud: string
  readonly jti: string
  readonly sub: string
  readonly ch: readonly string[]
  readonly org?: string
  /** Seconds since the epoch, as are all times in tokens (RFC 7519, 2). */
  readonly iat: number
  readonly nbf?: number
  readonly exp: number
  /** When the client's rights end; absent if they do not. Older versions ignore it. */
  readonly end?: number
}

/** Longer tickets would not fit into the URL of a request that also carries cookies and headers. */
const MAX_LENGTH = 4096

/** How far another process's clock may be ahead of ours. */
const CLOCK_SKEW_MS = 5000

/**
 * How much longer than the ticket its claim lasts. A ticket may expire between the check of its expiry
 * and the claim; the name would then be free again, and the ticket would be redeemed twice.
 */
const CLAIM_MARGIN_MS = 1000

class TicketService implements StreamTickets {
  readonly #options: ResolvedTicketsOptions
  readonly #signer: TokenSigner
  /** Undefined if `resumeFor` is false. */
  readonly #cookies: ResumeCookies | undefined

  constructor(options: ResolvedTicketsOptions) {
    this.#options = options
    this.#signer = new TokenSigner(options.secrets)
    const { resumeFor, cookie } = options
    if (resumeFor !== false) {
      this.#cookies = new ResumeCookies({ signer: this.#signer, cookie, resumeFor })
    }
  }

  async issue(grant: TicketGrant): Promise<string> {
    const { id, channels, origin, expiresAt } = checkGrant(grant)
    const { audience, ttl } = this.#options
    const now = Date.now() / 1000
    const ticket: Ticket = {
      aud: audience,
      jti: randomBytes(12).toString('base64url'),
      sub: id,
      ch: channels,
      ...(origin !== undefined && { org: origin }),
      iat: now,
      exp: now + ttl / 1000,
      ...(expiresAt !== Number.POSITIVE_INFINITY && { end: expiresAt / 1000 }),
    }
    const text = await this.#signer.sign('sse-ticket', ticket)
    if (text.length <= MAX_LENGTH) return text
    throw new TypeError(
      `issue(): the ticket must not be longer than ${MAX_LENGTH} characters, to fit into a URL; got ${text.length}. Grant fewer channels, and add the others on the stream's route by wrapping the "identify" of redeem()`,
    )
  }

  redeem(): TicketRoute {
    return {
      identify: async ctx => {
        try {
          const { sub, ch, end } = await this.#redeem(ctx)
          return { id: sub, channels: ch, ...(end !== undefined && { expiresAt: end * 1000 }) }
        } catch (error) {
          return this.#refuse(ctx, error)
        }
      },
    }
  }

  async #redeem(ctx: Context): Promise<Ticket> {
    const text = this.#textOf(ctx)
    const ticket = await this.#verify(text)
    if (ticket.org !== undefined && ticket.org !== originOf(ctx)) throw new Refused('origin')
    const cookie = (await this.#cookies?.verify(ctx, text, ticket.jti)) ?? 'absent'
    if (cookie === 'invalid') throw new Refused('cookie')
    const { authorize } = this.#options
    if (authorize !== undefined && !(await authorize(ticket.sub, ctx))) throw new Refused('revoked')
    if (cookie === 'absent') await this.#spend(ctx, ticket)
    if (ctx.method !== 'HEAD') await this.#cookies?.renew(ctx, text, ticket.jti)
    return ticket
  }

  #textOf(ctx: Context): string {
    const given = ctx.query[this.#options.query]
    if (given === undefined || given === '') throw new Refused('missing')
    if (typeof given !== 'string') throw new Refused('repeated')
    // Checked first, so that nothing is computed from what cannot be a ticket.
    if (given.length > MAX_LENGTH) throw new Refused('too-long')
    return given
  }

  /** Verifies all but `exp`, because a browser with a cookie may bring an expired ticket. */
  async #verify(text: string): Promise<Ticket> {
    const ticket = await this.#signer.verify('sse-ticket', text)
    if (typeof ticket === 'string') throw new Refused(ticket)
    if (!isTicket(ticket)) throw new Refused('malformed')
    if (ticket.aud !== this.#options.audience) throw new Refused('audience')
    const from = Math.max(ticket.iat, ticket.nbf ?? 0) * 1000
    if (Date.now() < from - CLOCK_SKEW_MS) throw new Refused('not-yet-valid')
    if (ticket.end !== undefined && Date.now() >= ticket.end * 1000) throw new Refused('expired')
    return ticket
  }

  async #spend(ctx: Context, { jti, exp }: Ticket): Promise<void> {
    const left = exp * 1000 - Date.now()
    if (left <= 0) throw new Refused('expired')
    // HEAD opens no stream: a link preview that asks for the headers must not spend the ticket.
    if (ctx.method === 'HEAD') return
    // The claim ends when the ticket does, so that whatever the clock of the next process that gets the
    // ticket shows, the ticket is either claimed or expired: see claims.ts.
    const ttl = Math.ceil(left) + CLAIM_MARGIN_MS
    if (!(await this.#options.pool.claim(`ticket:${jti}`, { ttl }))) throw new Refused('spent')
  }

  #refuse(ctx: Context, error: unknown): never {
    if (error instanceof Refused) {
      this.#report(error.why, ctx)
      // Always the same answer, so that an attacker learns nothing from it.
      ctx.throw(401, 'Unauthorized')
    }
    // Without the log nobody knows whether the ticket is spent, so it must not open a stream.
    if (error instanceof SseError) {
      ctx.throw(503, 'Service Unavailable', { expose: true, headers: { 'Retry-After': '5' } })
    }
    throw error
  }

  #report(why: TicketRefusal, ctx: Context): void {
    try {
      this.#options.onRefused(why, ctx)
    } catch (error) {
      ctx.app.emit('error', error, ctx)
    }
  }
}

/** Thrown and caught in this file only. */
class Refused extends Error {
  readonly why: TicketRefusal

  constructor(why: TicketRefusal) {
    super(why)
    this.why = why
  }
}

/**
 * The origin of the page. Browsers leave the header out for a request to the page's own origin; pages
 * can neither set nor remove it.
 */
function originOf(ctx: Context): string {
  return ctx.get('Origin') || `${ctx.protocol}://${ctx.host}`
}

function checkGrant(
  grant: TicketGrant,
): TicketGrant & { id: string; channels: readonly string[]; expiresAt: number } {
  for (const name in grant) {
    if (!GRANT.includes(name)) {
      throw new TypeError(`issue(): unknown field "${name}"${didYouMean(name, GRANT)}`)
    }
  }
  const { id, channels = [], origin, expiresAt } = grant ?? {}
  if (!Array.isArray(channels)) {
    throw new TypeError(
      `issue(): "channels" must be an array of channel names; got ${got(channels)}`,
    )
  }
  if (origin !== undefined && !isOrigin(origin)) {
    throw new TypeError(
      `issue(): "origin" must be an origin such as 'https://app.example', without a path or trailing slash; got ${got(origin)}`,
    )
  }
  return {
    id: clientIdOf(id),
    channels: channels.map(channelName),
    origin,
    expiresAt: timeOf('issue(): "expiresAt"', expiresAt),
  }
}

const GRANT = ['id', 'channels', 'origin', 'expiresAt']

/** As browsers send it (RFC 6454, 6.2): no path, no trailing slash, no default port. */
function isOrigin(value: unknown): boolean {
  return typeof value === 'string' && URL.canParse(value) && new URL(value).origin === value
}

/** Checked although it is signed: a later version may sign other claims with the same secret. */
function isTicket(value: object): value is Ticket {
  const { aud, jti, sub, ch, org, iat, nbf, exp, end } = value as Record<keyof Ticket, unknown>
  return (
    typeof aud === 'string' &&
    typeof jti === 'string' &&
    JTI.test(jti) &&
    typeof sub === 'string' &&
    Array.isArray(ch) &&
    ch.every(name => typeof name === 'string') &&
    (org === undefined || typeof org === 'string') &&
    Number.isFinite(iat) &&
    (nbf === undefined || Number.isFinite(nbf)) &&
    Number.isFinite(exp) &&
    (end === undefined || Number.isFinite(end))
  )
}
