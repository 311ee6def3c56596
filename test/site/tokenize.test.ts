import { expect, test } from 'vitest'
import { tokenize } from '../../site/tokenize.js'

test('words are split at spaces and punctuation', () => {
  expect(tokenize('pool.send(id, event)')).toEqual(['pool', 'send', 'id', 'event', ''])
})

test('Chinese is split into pairs of characters, and the last one', () => {
  expect(tokenize('重连后重放')).toEqual(['重连', '连后', '后重', '重放', '放'])
})

test('Latin words within Chinese are words', () => {
  expect(tokenize('收到sse.gap事件')).toEqual(['收到', '到', 'sse', 'gap', '事件', '件'])
})

test('the function needs nothing from its module, as it is sent to the page as text', () => {
  const sent = new Function(`return ${tokenize}`)()
  expect(sent('重放 now')).toEqual(['重放', '放', 'now'])
})
