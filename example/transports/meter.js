// @ts-check
// What each transport costs: its requests, and the bytes of their sockets, in both directions.

/** Pages that are remembered; the oldest are forgotten. */
const PAGES = 100

/**
 * @typedef {{ requests: number, bytes: number }} Cost
 * @typedef {{ cost: Cost | undefined, read: number, written: number }} Account
 */

/**
 * @param {import('node:http').Server} server
 * @param {(req: import('node:http').IncomingMessage) => { page: string, transport: string } | undefined} whose
 */
export function meter(server, whose) {
  /** @type {Map<string, Record<string, Cost>>} */
  const pages = new Map()
  /** @type {Map<import('node:net').Socket, Account>} */
  const accounts = new Map()

  server.on('connection', socket => {
    accounts.set(socket, { cost: undefined, read: 0, written: 0 })
    socket.once('close', () => {
      settle(socket)
      accounts.delete(socket)
    })
  })
  // Before the app, which may answer at once.
  server.prependListener('request', begin)
  server.prependListener('upgrade', begin)

  /** A browser uses a socket again, for another transport too: only from here on it is this one's. */
  function begin(req) {
    const account = accounts.get(req.socket)
    if (account === undefined) return
    settleWritten(req.socket, account)
    const asked = whose(req)
    account.cost = asked && costsOf(asked.page)[asked.transport]
    if (account.cost) account.cost.requests += 1
    // The request itself has been read by now.
    settle(req.socket)
  }

  function settle(socket) {
    const account = /** @type {Account} */ (accounts.get(socket))
    settleWritten(socket, account)
    if (account.cost) account.cost.bytes += socket.bytesRead - account.read
    account.read = socket.bytesRead
  }

  function settleWritten(socket, account) {
    if (account.cost) account.cost.bytes += socket.bytesWritten - account.written
    account.written = socket.bytesWritten
  }

  /** @param {string} page */
  function costsOf(page) {
    const none = () => ({ requests: 0, bytes: 0 })
    const costs = pages.get(page) ?? {
      polling: none(),
      longPolling: none(),
      webSocket: none(),
      sse: none(),
    }
    pages.set(page, costs)
    for (const oldest of pages.keys()) if (pages.size > PAGES) pages.delete(oldest)
    return costs
  }

  return {
    /** @param {string} page */
    costsOf(page) {
      for (const socket of accounts.keys()) settle(socket)
      return costsOf(page)
    },
    /** As a network that breaks: nobody is told. */
    cut() {
      for (const socket of accounts.keys()) socket.destroy()
    },
  }
}
