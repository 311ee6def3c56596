// @ts-check
// Measures each transport: its requests, and the bytes of their sockets in both directions.

/** The number of pages whose costs are kept; the oldest are dropped. */
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
  // Prepended, because the app may answer at once.
  server.prependListener('request', begin)
  server.prependListener('upgrade', begin)

  /** Browsers reuse sockets across transports, so each request settles the account of the one before. */
  function begin(req) {
    const account = accounts.get(req.socket)
    if (account === undefined) return
    settleWritten(req.socket, account)
    const asked = whose(req)
    account.cost = asked && costsOf(asked.page)[asked.transport]
    if (account.cost) account.cost.requests += 1
    // By now the request itself has been read; count it too.
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
      client: none(),
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
    /** Like a network failure: without any notice to either side. */
    cut() {
      for (const socket of accounts.keys()) socket.destroy()
    },
  }
}
