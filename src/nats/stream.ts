/** Finds or creates the stream, and says why an existing one cannot be a log. */
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

/** The stream exists but cannot be used, or it cannot be created. */
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
      // For this long an append may be repeated and is stored once, recognised by its nonce.
      duplicate_window: DUPLICATE_WINDOW_NS,
      storage: storage === 'file' ? StorageType.File : StorageType.Memory,
      num_replicas: replicas,
    })
  } catch (cause) {
    const owner = await manager.streams.find(subject).catch(() => undefined)
    // Another process was quicker, as happens when all of them start together.
    if (owner === stream) return manager.streams.info(stream)
    if (owner === undefined || apiCode(cause) !== SUBJECTS_OVERLAP) throw cause
    throw new UnusableStream(
      `the stream "${stream}" cannot be created: the stream "${owner}" has the subject "${subject}"; ` +
        'give another subject',
      { cause },
    )
  }
}

/** Why a stream with this configuration cannot be a log; undefined if it can. */
function problemWith(config: StreamConfig, subject: string): string | undefined {
  if (config.mirror) return 'it is a mirror, which accepts no messages'
  if (config.sealed) return 'it is sealed'
  if (config.no_ack) return 'it has no_ack, so it never confirms what it has stored'
  if (config.retention !== RetentionPolicy.Limits) {
    return `its retention is '${config.retention}', which deletes what was read; it must be 'limits'`
  }
  if (config.subject_transform)
    return 'it has a subject_transform, which hides the subject of entries'
  const subjects = config.subjects ?? []
  if (subjects.some(pattern => matches(pattern, subject))) return undefined
  const known = subjects.length > 0 ? subjects.join(', ') : 'none'
  return `it lacks the subject "${subject}"; its subjects are ${known}`
}

/**
 * Whether a subject matches a pattern with
 * [wildcards](https://docs.nats.io/nats-concepts/subjects#wildcards): `*` is any token, `>` is one or
 * more tokens at the end.
 */
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
