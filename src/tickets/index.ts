/**
 * Tickets for event streams. EventSource cannot send an `Authorization` header, so what lets a page in
 * stands in the URL, and URLs end up in logs, histories and `Referer`. A ticket is worthless there: it
 * is good for one connection within some seconds, and only for the page that it was issued to.
 *
 * ```js
 * const tickets = streamTickets({ pool, secret: process.env.TICKET_SECRET })
 * router.post('/event/ticket', signedIn, async ctx => {
 *   ctx.body = await tickets.issue({ id: ctx.state.user.id, channels: ['orders'] })
 * })
 * router.get('/event/push', sse({ pool, ...tickets.redeem() }))
 * ```
 */
import { randomBytes } from 'node:crypto'
import type { Context } from 'koa'
import { didYouMean, got, SseError } from '../lib/errors.js'
import { channelName, clientIdOf } from '../lib/names.js'
import { JTI, ResumeCookies } from './cookie.js'
import {
  type ResolvedTicketsOptions,
  resolveTicketsOptions,
  type StreamTicketsOptions,
  type TicketRefusal,
} from './options.js'
import { Seal } from './seal.js'

export type {
  StreamTicketsOptions,
  TicketCookieOptions,
  TicketRefusal,
  TicketSecret,
} from './options.js'

/** What a ticket is good for. */
export interface TicketGrant {
  /** The client's id, which becomes `ctx.sse.id`. */
  id: string | number
  /** The channels that its stream joins. Default: none. */
  channels?: readonly string[] | undefined
  /** The origin of the page, such as `'https://app.example'`. Default: any. */
  origin?: string | undefined
}

/** The options of `sse()` that take the client's id and channels from its ticket. */
export interface TicketRoute {
  id: (ctx: Context) => Promise<string>
  channels: (ctx: Context) => readonly string[]
}

export interface StreamTickets {
  /**
   * A new ticket, to be given to a page whose user is known: it is put into the URL of the stream.
   * Rejects with a TypeError for what no stream could have, such as an empty id.
   */
  issue(grant: TicketGrant): Promise<string>
  /** To be spread into the options of `sse()`. */
  redeem(): TicketRoute
}

/** @throws TypeError that names the option, when one is missing, unknown or wrong. */
export function streamTickets(options: StreamTicketsOptions): StreamTickets {
  return new Booth(resolveTicketsOptions(options))
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
}

/** No longer than this fits into a URL, next to the cookies and all else that a request carries. */
const MAX_LENGTH = 4096

/** How far, in ms, the clock of another process may be ahead. */
const SKEW = 5000

/** For so many ms a ticket counts as spent after its end: it may be redeemed in its last moment. */
const AFTER_END = 1000

class Booth implements StreamTickets {
  readonly #options: ResolvedTicketsOptions
  readonly #seal: Seal
  readonly #cookies: ResumeCookies | undefined
  /** What `id` has redeemed, for `channels`. */
  readonly #redeemed = new WeakMap<Context, Ticket>()

  constructor(options: ResolvedTicketsOptions) {
    this.#options = options
    this.#seal = new Seal(options.secrets)
    const { resumeFor, cookie } = options
    if (resumeFor !== false) {
      this.#cookies = new ResumeCookies({ seal: this.#seal, cookie, resumeFor })
    }
  }

  async issue(grant: TicketGrant): Promise<string> {
    const { id, channels, origin } = checkGrant(grant)
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
    }
    const text = await this.#seal.sign('sse-ticket', ticket)
    if (text.length <= MAX_LENGTH) return text
    throw new TypeError(
      `issue(): the ticket would have ${text.length} characters, and a URL takes ${MAX_LENGTH}; name fewer channels, and let the option "channels" of sse() find the others by the id`,
    )
  }

  redeem(): TicketRoute {
    return {
      id: async ctx => {
        try {
          const ticket = await this.#redeem(ctx)
          this.#redeemed.set(ctx, ticket)
          return ticket.sub
        } catch (error) {
          return this.#refuse(ctx, error)
        }
      },
      channels: ctx => {
        const ticket = this.#redeemed.get(ctx)
        if (ticket !== undefined) return ticket.ch
        throw new Error('The channels of a ticket are known when the "id" next to them was asked')
      },
    }
  }

  async #redeem(ctx: Context): Promise<Ticket> {
    const text = this.#textOf(ctx)
    const ticket = await this.#read(text)
    if (ticket.org !== undefined && ticket.org !== originOf(ctx)) throw new Refused('origin')
    const isBack = await this.#cookies?.prove(ctx, text, ticket.jti)
    if (isBack === false) throw new Refused('cookie')
    const { authorize } = this.#options
    if (authorize !== undefined && !(await authorize(ticket.sub, ctx))) throw new Refused('revoked')
    if (isBack === undefined) await this.#spend(ctx, ticket)
    if (ctx.method !== 'HEAD') await this.#cookies?.give(ctx, text, ticket.jti)
    return ticket
  }

  #textOf(ctx: Context): string {
    const given = ctx.query[this.#options.query]
    if (given === undefined || given === '') throw new Refused('missing')
    if (typeof given !== 'string') throw new Refused('repeated')
    // Before anything is computed from it.
    if (given.length > MAX_LENGTH) throw new Refused('too-long')
    return given
  }

  /** A ticket of ours, spent or not, expired or not. */
  async #read(text: string): Promise<Ticket> {
    const ticket = await this.#seal.open('sse-ticket', text)
    if (typeof ticket === 'string') throw new Refused(ticket)
    if (!isTicket(ticket)) throw new Refused('malformed')
    if (ticket.aud !== this.#options.audience) throw new Refused('audience')
    const from = Math.max(ticket.iat, ticket.nbf ?? 0) * 1000
    if (Date.now() < from - SKEW) throw new Refused('not-yet-valid')
    return ticket
  }

  async #spend(ctx: Context, { jti, exp }: Ticket): Promise<void> {
    const left = exp * 1000 - Date.now()
    if (left <= 0) throw new Refused('expired')
    // It opens no stream, and a preview that only asks for headers must not use the ticket up.
    if (ctx.method === 'HEAD') return
    const ttl = Math.ceil(left) + AFTER_END
    // Until the ticket's own end by the clock of whoever is asked: see claims.ts.
    if (!(await this.#options.pool.claim(`ticket:${jti}`, { ttl }))) throw new Refused('spent')
  }

  #refuse(ctx: Context, error: unknown): never {
    if (error instanceof Refused) {
      this.#tell(error.why, ctx)
      // Whatever it was: an attacker learns nothing from the answer.
      ctx.throw(401, 'Unauthorized')
    }
    // Whether it is spent is not known, so it is not let through.
    if (error instanceof SseError) {
      ctx.throw(503, 'Service Unavailable', { expose: true, headers: { 'Retry-After': '5' } })
    }
    throw error
  }

  #tell(why: TicketRefusal, ctx: Context): void {
    try {
      this.#options.onRefused(why, ctx)
    } catch (error) {
      ctx.app.emit('error', error, ctx)
    }
  }
}

class Refused extends Error {
  readonly why: TicketRefusal

  constructor(why: TicketRefusal) {
    super(why)
    this.why = why
  }
}

/** Where the page is from: browsers say so of requests to another origin, and pages cannot forge it. */
function originOf(ctx: Context): string {
  return ctx.get('Origin') || `${ctx.protocol}://${ctx.host}`
}

function checkGrant(grant: TicketGrant): TicketGrant & { id: string; channels: readonly string[] } {
  for (const name in grant) {
    if (!GRANT.includes(name)) {
      throw new TypeError(`issue(): unknown option "${name}"${didYouMean(name, GRANT)}`)
    }
  }
  const { id, channels = [], origin } = grant ?? {}
  if (!Array.isArray(channels)) {
    throw new TypeError(`issue(): "channels" must be an array of names; got ${got(channels)}`)
  }
  if (origin !== undefined && !isOrigin(origin)) {
    throw new TypeError(
      `issue(): "origin" must be one such as 'https://app.example', without a path; got ${got(origin)}`,
    )
  }
  return { id: clientIdOf(id), channels: channels.map(channelName), origin }
}

const GRANT = ['id', 'channels', 'origin']

/** As browsers send it (RFC 6454, 6.2): no path, no trailing slash, no default port. */
function isOrigin(value: unknown): boolean {
  return typeof value === 'string' && URL.canParse(value) && new URL(value).origin === value
}

/** A version to come may sign others with the same secret. */
function isTicket(value: object): value is Ticket {
  const { aud, jti, sub, ch, org, iat, nbf, exp } = value as Record<keyof Ticket, unknown>
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
    Number.isFinite(exp)
  )
}
