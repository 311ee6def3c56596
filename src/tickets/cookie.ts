/**
 * The cookie that lets a browser come back with a ticket that is spent. EventSource reconnects with
 * the URL that it was given, so the same ticket comes again; the cookie tells the browser that
 * redeemed it from everybody else who has seen the URL.
 */
import { createHash } from 'node:crypto'
import type { Context } from 'koa'
import type { ResolvedCookieOptions } from './options.js'
import type { Seal } from './seal.js'

export interface ResumeCookiesOptions {
  readonly seal: Seal
  readonly cookie: ResolvedCookieOptions
  /** Milliseconds for which one is good. */
  readonly resumeFor: number
}

/**
 * Cookies for one path: each tab has one of its own, and those of closed tabs last for a while. With
 * more the header could pass the 8 KiB that many a server takes, and nothing would get through.
 */
const MAX_COOKIES = 16

export class ResumeCookies {
  readonly #options: ResumeCookiesOptions

  constructor(options: ResumeCookiesOptions) {
    this.#options = options
  }

  /** Whether this browser has redeemed this very ticket; undefined when it brings no cookie for it. */
  async prove(ctx: Context, ticket: string, jti: string): Promise<boolean | undefined> {
    // Of those with the same name a neighbour's subdomain may have set one: it must not lock us out.
    const own = cookiesOf(ctx).filter(({ name }) => name === this.#nameOf(jti))
    for (const { value } of own) {
      const token = await this.#options.seal.open('sse-resume', value)
      if (typeof token !== 'object' || token.tkt !== digest(ticket)) continue
      if (typeof token.exp === 'number' && Date.now() < token.exp * 1000) return true
    }
    return own.length === 0 ? undefined : false
  }

  /** Lets this browser come back, counted from now. */
  async give(ctx: Context, ticket: string, jti: string): Promise<void> {
    const { seal, resumeFor } = this.#options
    const now = Date.now() / 1000
    const exp = now + resumeFor / 1000
    // The digest binds it to all that the ticket says: the client, its channels and its origin.
    const token = await seal.sign('sse-resume', { tkt: digest(ticket), iat: now, exp })
    this.#set(ctx, this.#nameOf(jti), token, Math.ceil(resumeFor / 1000))
    for (const name of this.#surplus(ctx, jti)) this.#set(ctx, name, '', 0)
  }

  /** The oldest ones; a tab that loses its cookie gets a new ticket when it reconnects. */
  #surplus(ctx: Context, jti: string): string[] {
    const { name: prefix } = this.#options.cookie
    const others = cookiesOf(ctx).filter(
      ({ name }) => name.startsWith(`${prefix}-`) && JTI.test(name.slice(prefix.length + 1)),
    )
    return others
      .filter(({ name }) => name !== this.#nameOf(jti))
      .map(({ name, value }) => ({ name, age: -issuedAt(value) }))
      .sort((a, b) => a.age - b.age)
      .slice(MAX_COOKIES - 1)
      .map(({ name }) => name)
  }

  #nameOf(jti: string): string {
    return `${this.#options.cookie.name}-${jti}`
  }

  /** Not by `ctx.cookies`, which throws for `Secure` where TLS ends at a proxy that Koa does not trust. */
  #set(ctx: Context, name: string, value: string, maxAge: number): void {
    const { path = pathOf(ctx), sameSite, partitioned } = this.#options.cookie
    const isSecure = ctx.secure || sameSite === 'none' || partitioned
    const attributes = [
      `${name}=${value}`,
      `Path=${path}`,
      `Max-Age=${maxAge}`,
      'HttpOnly',
      `SameSite=${SAME_SITE[sameSite]}`,
      ...(isSecure ? ['Secure'] : []),
      ...(partitioned ? ['Partitioned'] : []),
    ]
    ctx.append('Set-Cookie', attributes.join('; '))
  }
}

const SAME_SITE = { lax: 'Lax', strict: 'Strict', none: 'None' } as const

/** Sixteen characters, as `issue` makes them; a part of the cookie's name. */
export const JTI = /^[\w-]{16}$/

function digest(ticket: string): string {
  return createHash('sha256').update(ticket).digest('base64url')
}

function cookiesOf(ctx: Context): { name: string; value: string }[] {
  return ctx
    .get('Cookie')
    .split(';')
    .flatMap(pair => {
      const [, name, value] = /^\s*([^=\s]+)=(.*?)\s*$/.exec(pair) ?? []
      return name === undefined || value === undefined ? [] : [{ name, value }]
    })
}

/** Unproven, as it is only for tidying up one's own cookies; 0 for what cannot be read. */
function issuedAt(token: string): number {
  try {
    const { iat } = JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString())
    return Number.isFinite(iat) ? iat : 0
  } catch {
    return 0
  }
}

/** The path that the browser asked for, also where the app is mounted further in. */
function pathOf(ctx: Context): string {
  const [path = ''] = ctx.originalUrl.split('?')
  // What cannot stand in an attribute would end it and begin another: then the folder before it.
  const [plain] = /^\/[\x21-\x3a\x3c-\x7e]*/.exec(path) ?? ['/']
  return plain === path ? path : plain.slice(0, plain.lastIndexOf('/') + 1)
}
