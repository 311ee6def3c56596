/** For the project `lean`: a file in which no stream ever becomes lean says nothing there. */
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
