import { setImmediate as turn } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Browser, ENGINES, launch } from './browser.js'
import { PROTOCOLS, serveSite } from './site.js'
import { openStream } from './tab.js'

const order = (count: number) => ({ data: { count, state: 'packed', place: 'shelf 12', aisle: 7 } })
const dataOf = (count: number) => JSON.stringify(order(count).data)

describe.each(ENGINES)('a compressed stream in %s', engine => {
  let browser: Browser

  beforeAll(async () => {
    browser = await launch(engine)
  })
  afterAll(() => browser.close())

  test.each(PROTOCOLS)('over %s arrives at once, across every kind of end', async protocol => {
    let fails = false
    const site = await serveSite({
      protocol,
      sse: { compress: true },
      async handler(ctx) {
        expect(ctx.get('Accept-Encoding')).toContain('gzip')
        if (!fails) return
        fails = false
        ctx.sse.send('fails now')
        for (let count = 0; count < 10; count += 1) await turn()
        throw new Error('planned')
      },
    })
    const tab = await openStream(browser, site, 'ada')
    // WebKit never notices a cut over HTTP/2; it then gets an end in the middle of the gzip stream.
    const noticesCuts = !(engine === 'webkit' && protocol === 'HTTP/2')
    const interrupt = () => (noticesCuts ? site.cut() : site.endStreams())
    let count = 0
    /** Sends an event while the page is away, and waits until it has it. */
    const arrives = async () => {
      count += 1
      const id = await site.pool.broadcast(order(count))
      await tab.until('message', 1, id)
    }
    await arrives()
    await arrives()

    const [stream] = site.pool.get('ada')?.streams ?? []
    stream?.rotate()
    await arrives()
    await interrupt()
    await arrives()
    fails = true
    await interrupt()
    await arrives()
    await site.until(() => site.pool.has('ada'))
    await arrives()
    await site.pool.remove('ada')
    await tab.until('failed')

    const data = await tab.data()
    expect(data.filter(one => one !== 'fails now')).toEqual(
      Array.from({ length: count }, (_, at) => dataOf(at + 1)),
    )
    expect(data).toContain('fails now')
    expect(site.asked.at(-1)).toBe('sse.end')
  })
})
