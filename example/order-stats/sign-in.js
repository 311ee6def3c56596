// @ts-check
// Accounts and sessions. In your app keep both in the database, and limit the number of attempts.
import { randomUUID, scrypt, timingSafeEqual } from 'node:crypto'
import { promisify } from 'node:util'

const hash = promisify(scrypt)
const HOUR = 3_600_000

/** The demo's accounts; the page shows the passwords. */
const ACCOUNTS = [
  { name: 'ada', password: 'may look', mayView: true },
  { name: 'bob', password: 'may not', mayView: false },
]

/** @typedef {{ id: string, name: string, mayView: boolean, until: number }} Session */

export async function openSessions() {
  const salt = randomUUID()
  const accounts = await Promise.all(
    ACCOUNTS.map(async ({ password, ...account }) => ({
      ...account,
      secret: /** @type {Buffer} */ (await hash(password, salt, 32)),
    })),
  )
  /** @type {Map<string, Session>} */
  const sessions = new Map()

  /** @param {import('koa').Context} ctx */
  async function signIn(ctx) {
    const { name, password } = /** @type {any} */ (ctx.request.body) ?? {}
    if (typeof name !== 'string' || typeof password !== 'string') return ctx.throw(400)
    // Hashed for unknown names too, or the response time would reveal which names exist.
    const given = /** @type {Buffer} */ (await hash(password, salt, 32))
    const account = accounts.find(one => one.name === name)
    if (!account || !timingSafeEqual(account.secret, given)) return ctx.throw(401)
    const { mayView } = account
    const session = { id: randomUUID(), name, mayView, until: Date.now() + 8 * HOUR }
    sessions.set(session.id, session)
    // HttpOnly by default: scripts cannot read it. Signed: knowing an id is not enough to forge it.
    ctx.cookies.set('session', session.id, { signed: true, sameSite: 'strict' })
    return session
  }

  /** @param {import('koa').Context} ctx */
  function signOut(ctx) {
    sessions.delete(sessionOf(ctx)?.id ?? '')
    ctx.cookies.set('session', null)
  }

  /** @param {import('koa').Context} ctx */
  function sessionOf(ctx) {
    return find(ctx.cookies.get('session', { signed: true }))
  }

  function find(id = '') {
    const session = sessions.get(id)
    if (session && session.until > Date.now()) return session
    sessions.delete(id)
    return undefined
  }

  /** Whether the session still exists and may see the figures. */
  function mayView(id) {
    return find(id)?.mayView ?? false
  }
  return { signIn, signOut, sessionOf, mayView, revoke: id => sessions.delete(id) }
}
