/** What the engine sends to Redis. */
import { Connection } from '../log/connection.js'
import type { CreateConnection, DriverConnection } from './client.js'

export class RedisConnection extends Connection {
  readonly #driver: DriverConnection

  /** @param timeout for connecting, in ms */
  constructor(createConnection: CreateConnection, timeout: number) {
    super(timeout)
    this.#driver = createConnection(timeout, error => this.destroy(error))
  }

  /** Resolves to the reply. Without one after `timeout` ms it rejects, and the connection ends. */
  send(args: string[], timeout: number): Promise<unknown> {
    return this.inTime(timeout, `no reply to ${args[0]} for`, this.#driver.send(args))
  }

  subscribe(
    channel: string,
    listener: (message: string) => void,
    timeout: number,
  ): Promise<unknown> {
    const subscribed = this.#driver.subscribe(channel, listener)
    return this.inTime(timeout, 'no reply to SUBSCRIBE for', subscribed)
  }

  unsubscribe(channel: string, timeout: number): Promise<unknown> {
    const unsubscribed = this.#driver.unsubscribe(channel)
    return this.inTime(timeout, 'no reply to UNSUBSCRIBE for', unsubscribed)
  }

  protected override dial(): Promise<unknown> {
    return this.#driver.connect()
  }

  protected override hangUp(): void {
    this.#driver.destroy()
  }
}
