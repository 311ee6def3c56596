/** For the project `lean`: fails a file in which no stream becomes lean, as it would prove nothing. */
import { afterAll, expect } from 'vitest'
import { Stream } from '../../src/stream/stream.js'

let lean = 0

const { detach } = Stream.prototype
Stream.prototype.detach = function (this: Stream) {
  detach.call(this)
  if (this.isLean) lean += 1
}

afterAll(() => {
  expect(lean, 'streams that became lean').toBeGreaterThan(0)
})
