import type { EventLog } from 'koa-sse-pool'
import { describe, expect, test, vi } from 'vitest'
import { type Listener, Messages } from '../../src/log/messages.js'
import { testPool } from '../helpers/server.js'
import { sharedLog } from '../helpers/shared-log.js'

/** Messages whose frames come back at once, as they would from a log. */
function looped() {
  const frames: string[] = []
  const append: EventLog['append'] = async ({ frame }) => {
    frames.push(frame)
    messages.receive(frame)
    return ''
  }
  const messages = new Messages({ append }, () => 'nonce')
  return { messages, frames }
}

const listener = () => ({ receive: vi.fn(), replay: vi.fn(), missed: vi.fn() })

test('a listener receives what is published on its topic and nothing else', async () => {
  const { messages } = looped()
  const [news, sport] = [listener(), listener()]
  messages.listen('news', news)
  messages.listen('sport', sport)
  await messages.publish('news', { text: 'line\nbreak\0 \u{1F600} \ud800' })
  await messages.publish('weather', {})
  expect(news.receive.mock.calls).toEqual([[{ text: 'line\nbreak\0 \u{1F600} \ud800' }]])
  expect(sport.receive).not.toHaveBeenCalled()
  expect(news.replay).not.toHaveBeenCalled()
})

test('messages that the log held before reach only listeners that replay them', () => {
  const { messages } = looped()
  const [both, live] = [listener(), { receive: vi.fn() } satisfies Listener]
  messages.listen('both', both)
  messages.listen('live', live)
  messages.replay('{"topic":"both","body":1}')
  messages.replay('{"topic":"live","body":2}')
  expect(both.replay.mock.calls).toEqual([[1, false]])
  expect(both.receive).not.toHaveBeenCalled()
  expect(live.receive).not.toHaveBeenCalled()
})

test('all listeners are told when messages may have been missed', () => {
  const { messages } = looped()
  const [careful, careless] = [listener(), { receive: vi.fn() } satisfies Listener]
  messages.listen('careful', careful)
  messages.listen('careless', careless)
  messages.missed()
  expect(careful.missed).toHaveBeenCalledOnce()
})

test.each([
  ...['', 'no JSON', 'null', '1', '[]', '{}', '{"topic":1}', '{"topic":"__proto__"}'],
  '{"from":"x","says":"here"}',
])('a message that cannot be read is ignored: %s', frame => {
  const { messages } = looped()
  const news = listener()
  messages.listen('news', news)
  messages.receive(frame)
  messages.replay(frame)
  expect(news.receive).not.toHaveBeenCalled()
  expect(news.replay).not.toHaveBeenCalled()
})

test('without another process to receive it, nothing is published', async () => {
  const messages = new Messages(undefined, () => '')
  const news = listener()
  messages.listen('news', news)
  expect(messages.isAlone).toBe(true)
  await messages.publish('news', {})
  expect(news.receive).not.toHaveBeenCalled()
  expect(looped().messages.isAlone).toBe(false)
})

test('publishing rejects if the append does', async () => {
  const messages = new Messages(
    { append: () => Promise.reject(new Error('The log is down')) },
    () => '',
  )
  await expect(messages.publish('news', {})).rejects.toThrow('The log is down')
})

describe('in a pool', () => {
  test('messages of the past displace no event, and no client receives them', async () => {
    const log = sharedLog()
    const writer = log.open()
    await writer.append({ nonce: 'n', target: '?', frame: '{"topic":"news","body":1}' })
    await writer.append({ nonce: 'n', target: '*', frame: 'data: hello\n\n' })
    await writer.append({ nonce: 'n', target: '?', frame: 'no JSON' })
    const pool = testPool({ log: log.open() })
    expect(pool.stats()).toMatchObject({ window: { events: 1 }, log: 'up' })
  })
})
