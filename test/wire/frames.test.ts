import { expect, test } from 'vitest'
import { entryFrame, ID_LINE_BYTES } from '../../src/wire/frames.js'

test('an entry on the wire is longer by its id and ID_LINE_BYTES, by which batches are measured', () => {
  const frame = 'data: x\n\n'
  expect(entryFrame('7-0', frame)).toBe('data: x\nid: 7-0\n\n')
  expect(entryFrame('7-0', frame)).toHaveLength(frame.length + '7-0'.length + ID_LINE_BYTES)
})
