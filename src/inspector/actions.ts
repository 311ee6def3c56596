/** What the page does to the pool: each is a POST with a JSON object. */
import type { Context } from 'koa'
import { channelName } from '../lib/names.js'
import { isRecord, isWhole } from '../lib/rules.js'
import type { Hub } from '../pool/hub.js'
import type { InspectorAction } from './options.js'
import { MAX_SPREAD_MS } from './questions.js'
import type { Survey } from './survey.js'

const MAX_BODY_BYTES = 64 * 1024

type Body = Record<string, unknown>

/**
 * Whether a page of this site sends the request. Browsers set both headers and no page can change them. A request with
 * neither does not come from a page that uses the admin's session, but nothing needs it, so it is refused too.
 */
export function isSameOrigin(ctx: Context): boolean {
  const site = ctx.get('Sec-Fetch-Site')
  if (site !== '') return site === 'same-origin'
  const origin = ctx.get('Origin')
  // By host, as an app behind a proxy may not know that it is served over HTTPS.
  return URL.canParse(origin) && new URL(origin).host === ctx.host
}

/** The JSON object of a request. A body parser may have read it already. */
export async function bodyOf(ctx: Context): Promise<Body> {
  // A page of another site cannot send this type without a preflight, which nothing here answers.
  if (!ctx.is('application/json')) ctx.throw(415, 'Send application/json')
  const { body } = ctx.request as { body?: unknown }
  const given = body === undefined ? await readJson(ctx) : body
  if (isRecord(given)) return given
  return ctx.throw(400, 'The body must be a JSON object')
}

async function readJson(ctx: Context): Promise<unknown> {
  let text = ''
  for await (const chunk of ctx.req.setEncoding('utf8')) {
    text += chunk
    if (text.length > MAX_BODY_BYTES) ctx.throw(413, `The body is larger than ${MAX_BODY_BYTES}`)
  }
  try {
    return JSON.parse(text)
  } catch {
    return ctx.throw(400, 'The body is not JSON')
  }
}

/** Does it, and returns what the page is told. */
export async function act(
  action: InspectorAction,
  body: Body,
  { hub, survey }: { hub: Hub; survey: Survey },
): Promise<object | undefined> {
  if (action === 'send') return { id: await send(hub, body) }
  if (action === 'remove') {
    if (typeof body.client !== 'string') throw new TypeError('"client" must be the id of a client')
    return { id: await hub.remove(body.client) }
  }
  const { process, spread = 0 } = body
  if (typeof process !== 'string') throw new TypeError('"process" must be the id of a process')
  if (!isWhole(spread, 0, MAX_SPREAD_MS)) {
    throw new TypeError(`"spread" must be whole milliseconds, 0 to ${MAX_SPREAD_MS}`)
  }
  return survey.drain(process, spread as number)
}

function send(hub: Hub, { to, name, event, data = '' }: Body): Promise<string> {
  if (typeof event !== 'string') throw new TypeError('"event" must be the name of an event')
  const sent = { event, data }
  if (to === 'everyone') return hub.broadcast(sent)
  if (typeof name !== 'string') throw new TypeError('"name" must be a client or a channel')
  if (to === 'client') return hub.send(name, sent)
  if (to === 'channel') return hub.sendToChannels([channelName(name)], sent)
  throw new TypeError('"to" must be "client", "channel" or "everyone"')
}
