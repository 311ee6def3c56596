/** What a page gives a stream, and the checks of it. */

/** What a page may set. All of it is optional. */
export interface PoolEventSourceOptions {
  /** Sends cookies to another origin too, as with EventSource. Default `false`. */
  withCredentials?: boolean | undefined
  /** Parses the data of events as JSON; data that is no JSON stays text. Default `false`. */
  json?: boolean | undefined
  /**
   * One stream for all tabs of this origin. Tabs share it if URL, `withCredentials` and this value are the
   * same, so give a user's id if tabs of one browser may belong to different users. What the handler sends
   * by `ctx.sse.send` reaches the tabs that are open at that time. Where the browser has no Web Locks,
   * each tab has a stream of its own. Default `false`.
   */
  share?: boolean | string | undefined
  /**
   * Headers of the request, or a function that returns them before each attempt. After a 401 or 403 it is
   * called once more, so that it can return a new token. Default: none.
   */
  headers?: HeadersInit | (() => HeadersInit | Promise<HeadersInit>) | undefined
  /** The method of the request. Default `'GET'`, or `'POST'` if there is a `body`. */
  method?: string | undefined
  /** The body of the request, sent again with each attempt. Default: none. */
  body?: BodyInit | undefined
  /**
   * The server's `pingInterval` in milliseconds. After a silence of two and a half intervals the stream
   * counts as dead. Default: as the server says in its heartbeats; without those, silence means nothing.
   */
  pingInterval?: number | undefined
  /** The id to continue after, from an earlier `lastEventId`. Default: from now on. */
  lastEventId?: string | undefined
  /**
   * Called when events are missing from the log; see `sse.gap` in docs/guarantees.md for the reasons. Fetch
   * the state here. Events that arrive until the returned promise settles are held back. Default: nothing.
   */
  onGap?: ((reason: string) => unknown) | undefined
}

export function checkOptions(url: string | URL, options: PoolEventSourceOptions): URL {
  const { share, body, method } = options
  const resolved = new URL(url, globalThis.document?.baseURI)
  if (!/^http/.test(resolved.protocol)) {
    throw new TypeError(`url must be http or https, got ${resolved}`)
  }
  if (share && (body || method)) {
    throw new TypeError('share needs a plain GET, without method and body')
  }
  return resolved
}
