/** Finds the stream, makes it when there is none, and says what keeps it from being a log. */
import {
  DiscardPolicy,
  type JetStreamManager,
  RetentionPolicy,
  StorageType,
  type StreamConfig,
  type StreamInfo,
} from '@nats-io/jetstream'
import { apiCode } from './errors.js'
import type { ResolvedNatsOptions } from './options.js'

/** The stream is there and cannot do the job; or it cannot be made. */
export class UnusableStream extends Error {
  override readonly name = 'UnusableStream'
}

const STREAM_NOT_FOUND = 10_059
const SUBJECTS_OVERLAP = 10_065
const DUPLICATE_WINDOW_NS = 2 * 60 * 1_000_000_000

/** @throws UnusableStream */
export async function openStream(
  manager: JetStreamManager,
  options: ResolvedNatsOptions,
): Promise<StreamInfo> {
  const { stream, subject } = options
  let info: StreamInfo
  try {
    info = await manager.streams.info(stream)
  } catch (error) {
    if (apiCode(error) !== STREAM_NOT_FOUND) throw error
    info = await makeStream(manager, options)
  }
  const problem = problemWith(info.config, subject)
  if (problem !== undefined) {
    throw new UnusableStream(`the stream "${stream}" cannot be a log: ${problem}`)
  }
  return info
}

async function makeStream(
  manager: JetStreamManager,
  { stream, subject, maxEntries, storage, replicas }: ResolvedNatsOptions,
): Promise<StreamInfo> {
  try {
    return await manager.streams.add({
      name: stream,
      subjects: [subject],
      max_msgs: maxEntries,
      discard: DiscardPolicy.Old,
      // So long an append may be tried again and is still stored once.
      duplicate_window: DUPLICATE_WINDOW_NS,
      storage: storage === 'file' ? StorageType.File : StorageType.Memory,
      num_replicas: replicas,
    })
  } catch (cause) {
    const owner = await manager.streams.find(subject).catch(() => undefined)
    // Another process was quicker, as happens when all are started together.
    if (owner === stream) return manager.streams.info(stream)
    if (owner === undefined || apiCode(cause) !== SUBJECTS_OVERLAP) throw cause
    throw new UnusableStream(
      `the stream "${stream}" cannot be made: another one has the subject "${subject}"`,
      { cause },
    )
  }
}

/** Undefined when it can do the job. */
function problemWith(config: StreamConfig, subject: string): string | undefined {
  if (config.mirror) return 'it is a mirror, which cannot be published to'
  if (config.sealed) return 'it is sealed'
  if (config.no_ack) return 'it has no_ack, so nobody could know what was stored'
  if (config.retention !== RetentionPolicy.Limits) {
    return `its retention is '${config.retention}', which deletes what was read; it must be 'limits'`
  }
  if (config.subject_transform) return 'its subject_transform would hide where entries come from'
  const subjects = config.subjects ?? []
  if (subjects.some(pattern => matches(pattern, subject))) return undefined
  const known = subjects.length > 0 ? subjects.join(', ') : 'none'
  return `it lacks the subject "${subject}"; its subjects are ${known}`
}

/** Whether a subject fits a pattern: `*` is any token, `>` all that follow. */
function matches(pattern: string, subject: string): boolean {
  const wanted = pattern.split('.')
  const tokens = subject.split('.')
  if (wanted.at(-1) === '>')
    return tokens.length >= wanted.length && fits(wanted.slice(0, -1), tokens)
  return tokens.length === wanted.length && fits(wanted, tokens)
}

function fits(wanted: readonly string[], tokens: readonly string[]): boolean {
  return wanted.every((token, i) => token === '*' || token === tokens[i])
}
