/** An engine that boots, answers and stores when the test says so. */
import type { Entry, EventLog, LogSink } from 'koa-sse-pool'
import { MESSAGE } from '../../src/log/messages.js'

export class ElsewhereLog implements EventLog {
  sink!: LogSink
  stored: Entry[] = []
  boots = true
  /** What a barrier does. */
  answer: () => Promise<void> = async () => {}
  /** What storing a message between processes waits for. */
  mention: () => Promise<void> = async () => {}
  barriers = 0
  async open(sink: LogSink) {
    this.sink = sink
    if (this.boots) this.boot()
  }
  boot() {
    this.sink.reset(this.stored, 'boot')
  }
  async append(entry: Omit<Entry, 'id'>) {
    if (entry.target === MESSAGE) {
      await this.mention()
      return ''
    }
    const stored = { ...entry, id: String(this.stored.length + 1) }
    this.stored.push(stored)
    this.sink.append([stored])
    return stored.id
  }
  compare(a: string, b: string) {
    return Number(a) - Number(b)
  }
  async barrier() {
    this.barriers += 1
    await this.answer()
    return this.stored.at(-1)?.id ?? null
  }
  async close() {}
}
