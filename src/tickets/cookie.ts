/**
 * The cookie by which a browser reconnects with a spent ticket. EventSource reconnects with the URL it
 * was given, so the same ticket comes again; the cookie distinguishes the browser that redeemed it
 * from everyone else who has seen the URL.
 */
import { createHash } from 'node:crypto'
import type { Context } from 'koa'
import type { ResolvedCookieOptions } from './options.js'
import type { TokenSigner } from './token-signer.js'

export interface ResumeCookiesOptions {
  readonly signer: TokenSigner
  readonly cookie: ResolvedCookieOptions
  /** Milliseconds until a cookie expires. */
  readonly resumeFor: number
}

/**
 * Cookies that a browser keeps for one path: one for each tab, and those of closed tabs until they
 * expire. More could push the header past the 8 KiB that many servers accept, and then no request
 * would get through.
 */
const MAX_COOKIES = 16

export class ResumeCookies {
  readonly #options: ResumeCookiesOptions

  constructor(options: ResumeCookiesOptions) {
    this.#options = options
  }

  /** Whether the request brings the cookie that was set when this very ticket was redeemed. */
  async verify(ctx: Context, ticket: string, jti: string): Promise<'valid' | 'invalid' | 'absent'> {
    const own = cookiesOf(ctx).filter(({ name }) => name === this.#nameOf(jti))
    // A neighbouring subdomain can set a cookie of the same name; it must not lock the client out.
    for (const { value } of own) {
      const token = await this.#options.signer.verify('sse-resume', value)
      if (typeof token !== 'object' || token.tkt !== digest(ticket)) continue
      if (typeof token.exp === 'number' && Date.now() < token.exp * 1000) return 'valid'
    }
    return own.length === 0 ? 'absent' : 'invalid'
  }

  /** Sets the cookie for this ticket, or extends it: it expires `resumeFor` from now. */
  async renew(ctx: Context, ticket: string, jti: string): Promise<void> {
    const { signer, resumeFor } = this.#options
    const now = Date.now() / 1000
    const exp = now + resumeFor / 1000
    // The digest binds the cookie to all that the ticket contains: the client, channels and origin.
    const token = await signer.sign('sse-resume', { tkt: digest(ticket), iat: now, exp })
    this.#set(ctx, this.#nameOf(jti), token, Math.ceil(resumeFor / 1000))
    for (const name of this.#surplus(ctx, jti)) this.#set(ctx, name, '', 0)
  }

  /** The oldest cookies beyond the limit. A tab that loses its own needs a new ticket to reconnect. */
  #surplus(ctx: Context, jti: string): string[] {
    const { name: prefix } = this.#options.cookie
    const others = cookiesOf(ctx).filter(
      ({ name }) =>
        name.startsWith(`${prefix}-`) &&
        JTI.test(name.slice(prefix.length + 1)) &&
        name !== this.#nameOf(jti),
    )
    return others
      .map(({ name, value }) => ({ name, iat: issuedAt(value) }))
      .sort((a, b) => b.iat - a.iat)
      .slice(MAX_COOKIES - 1)
      .map(({ name }) => name)
  }

  #nameOf(jti: string): string {
    return `${this.#options.cookie.name}-${jti}`
  }

  /** Not by `ctx.cookies`, which throws for `Secure` if TLS ends at a proxy and `app.proxy` is false. */
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

/** A ticket's unique id as `issue` makes it: 16 characters that may stand in a cookie's name. */
export const JTI = /^[\w-]{16}$/

function digest(ticket: string): string {
  return createHash('sha256').update(ticket).digest('base64url')
}

function cookiesOf(ctx: Context): Cookie[] {
  return parseCookies(ctx.get('Cookie'))
}

export interface Cookie {
  readonly name: string
  readonly value: string
}

/**
 * The pairs of a `Cookie` header, in order, repeated names included. Without regular expressions:
 * one that trims both ends backtracks, and took 144 ms for a header of 14 KB of spaces.
 */
export function parseCookies(header: string): Cookie[] {
  const cookies: Cookie[] = []
  for (const pair of header.split(';')) {
    const equals = pair.indexOf('=')
    const name = pair.slice(0, Math.max(equals, 0)).trim()
    if (name !== '') cookies.push({ name, value: pair.slice(equals + 1).trim() })
  }
  return cookies
}

/**
 * Read without verifying the signature, because it only decides which of the browser's own cookies go
 * first. 0 for what cannot be read.
 */
function issuedAt(token: string): number {
  try {
    const { iat } = JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString())
    return Number.isFinite(iat) ? iat : 0
  } catch {
    return 0
  }
}

/** The path as the browser requested it, including what `koa-mount` has cut off. */
function pathOf(ctx: Context): string {
  const [path = ''] = ctx.originalUrl.split('?')
  // Any other character, such as ";", could start another attribute: use the folder before it.
  const [plain] = /^\/[\x21-\x3a\x3c-\x7e]*/.exec(path) ?? ['/']
  return plain === path ? path : plain.slice(0, plain.lastIndexOf('/') + 1)
}
