/** The internals behind the public objects, for tests of how a stream is served. */
import type { ClientPool } from 'koa-sse-pool'
import { Gap, Reader } from '../../src/delivery/reader.js'
import type { Batch, Target } from '../../src/delivery/target.js'
import { hubOf } from '../../src/pool/hub.js'
import type { Stream } from '../../src/stream/stream.js'
import { gapFrame } from '../../src/wire/frames.js'

/** The streams of a pool, as the pool sees them. */
export function streamsOf(pool: ClientPool): Stream[] {
  return [...hubOf(pool).members.streams()]
}

/** The oldest stream of a client. */
export function streamOf(pool: ClientPool, id: string): Stream {
  const stream = streamsOf(pool).find(stream => stream.id === id)
  if (stream === undefined) throw new Error(`${id} has no stream`)
  return stream
}

/** A reader without a socket. It records what it is given and takes nothing while it is full. */
export class FakeReader extends Reader {
  readonly clientTarget: Target | undefined
  isClosed = false
  isFull = false
  /** What a stream would have written. */
  got = ''
  readonly gaps: string[] = []
  onTake = () => {}
  onWake = () => {}

  constructor(
    readonly id: string,
    targets: readonly Target[] = [],
    lastEventId = '',
  ) {
    super(lastEventId)
    this.clientTarget = targets.find(({ name }) => name.startsWith('@'))
    this.follow(targets)
    for (const target of targets) target.add(this)
  }

  canTake(): boolean {
    return !this.isFull
  }

  take(next: Batch | Gap): void {
    if (next instanceof Gap) {
      this.gaps.push(next.reason)
      this.got += gapFrame(next.reason, next.id).text
    } else {
      this.got += next.chunk(true).text
    }
    this.onTake()
  }

  wake(): void {
    this.onWake()
  }
}
