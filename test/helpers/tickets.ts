/** Apps with tickets, forged tokens, and a browser's cookies. */
import http from 'node:http'
import { CompactSign } from 'jose'
import Koa from 'koa'
import { type ClientPool, type RouteOptions, sse } from 'koa-sse-pool'
import { type StreamTicketsOptions, streamTickets, type TicketRefusal } from 'koa-sse-pool/tickets'
import { expect } from 'vitest'
import { listen, type TestClient, testPool } from './server.js'

export const SECRET = 'the secret of the tests, 32 bytes or more'

/** A server whose every path is a stream for clients with a ticket. */
export async function serveTickets(
  options: Partial<StreamTicketsOptions> = {},
  { pool = testPool(), ...route }: RouteOptions & { pool?: ClientPool } = {},
) {
  const refusals: TicketRefusal[] = []
  const tickets = streamTickets({
    pool,
    secret: SECRET,
    onRefused: why => refusals.push(why),
    ...options,
  })
  const app = new Koa()
  const errors: Error[] = []
  app.on('error', error => error.expose || errors.push(error))
  app.use(sse({ pool, ...tickets.redeem(), ...route }))
  const server = http.createServer(app.callback())
  return { app, errors, server, pool, tickets, refusals, ...(await listen(server)) }
}

/** A token signed with a known secret, whatever it says. */
export function forge(payload: unknown, header: object = {}, secret = SECRET): Promise<string> {
  return forgeText(JSON.stringify(payload), header, secret)
}

export function forgeText(payload: string, header: object = {}, secret = SECRET): Promise<string> {
  return new CompactSign(new TextEncoder().encode(payload))
    .setProtectedHeader({ alg: 'HS256', typ: 'sse-ticket', ...header })
    .sign(new TextEncoder().encode(secret))
}

/** The claims that `issue` would have signed, with some of them changed. */
export function claims(changes: Record<string, unknown> = {}): object {
  const now = Date.now() / 1000
  const jti = 'AAAABBBBCCCCDDDD'
  return { aud: 'koa-sse-pool', jti, sub: 'ada', ch: [], iat: now, exp: now + 30, ...changes }
}

/** The cookies of one browser for one path. */
export class Jar {
  readonly cookies = new Map<string, string>()

  take({ 'set-cookie': lines = [] }: http.IncomingHttpHeaders): this {
    for (const line of lines) {
      const [, name = '', value = ''] = /^([^=]+)=([^;]*)/.exec(line) ?? []
      if (line.includes('Max-Age=0;')) this.cookies.delete(name)
      else this.cookies.set(name, value)
    }
    return this
  }

  /** For `connect`. */
  get options() {
    const pairs = [...this.cookies].map(([name, value]) => `${name}=${value}`)
    return { headers: { Cookie: pairs.join('; ') } }
  }
}

/** The first `Set-Cookie` line. */
export function cookieOf({ headers }: TestClient): string {
  return headers['set-cookie']?.[0] ?? ''
}

/** Expects a 401 that gives no reason. */
export async function expectRefused(client: TestClient) {
  await client.ended
  expect(client.status).toBe(401)
  expect(client.text).toBe('Unauthorized')
  expect(client.headers['set-cookie']).toBeUndefined()
}
