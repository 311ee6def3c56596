/** What an engine's tests bring: a log, and how to make it fail. */
import type { EventLog } from '../log/log.js'

/** A fresh, empty log for one test, and the ways to make its engine fail. */
export interface SharedLog {
  /**
   * Returns the log as one more process sees it. Called once for each process of a test; the suite opens
   * and closes what it returns.
   */
  open(): EventLog
  /** Frees what `create` allocated. Called after each test, once all logs are closed. */
  close(): Promise<void> | void
  /** For the fault `cut`: cuts the connections of all processes, once. They may reconnect at once. */
  cut?(): Promise<void> | void
  /** For the fault `flush`: empties the engine, as if it had lost all of its data. */
  flush?(): Promise<void> | void
  /** For the fault `trim`: deletes all entries but keeps the log itself. */
  trim?(): Promise<void> | void
  /** For the fault `stop`: stops the engine, so that no process can reach it. */
  stop?(): Promise<void> | void
  /** For the fault `stop`: starts the engine again, with or without its data. */
  start?(): Promise<void> | void
}

/** A fault that the suite can cause, named after the method of {@link SharedLog} that causes it. */
export type LogFault = 'cut' | 'flush' | 'trim' | 'stop'
