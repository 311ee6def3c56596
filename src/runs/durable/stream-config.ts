/** What a stream was created with. It is the run's `meta`: a second `PUT` must be able to compare it. */
import { isRecord } from '../../lib/rules.js'

export interface StreamConfig {
  /** As it was given. */
  readonly contentType: string
  /** In seconds. */
  readonly ttl?: number | undefined
  /** RFC 3339, as it was given. */
  readonly expiresAt?: string | undefined
  /** Lives as long as its source does, because the request named no time. */
  readonly inheritsExpiry?: boolean | undefined
  readonly fork?:
    | {
        /** The id of the source. */
        readonly from: string
        /** The position of the offset that was given, or of the source's tail at that time. */
        readonly at: number
        /** How many bytes or messages beyond that. */
        readonly sub: number
      }
    | undefined
}

/** The version of the format; it also distinguishes a configuration from the meta of other runs. */
const FORMAT = 1

export function formatConfig(config: StreamConfig): string {
  return JSON.stringify({ durableStream: FORMAT, ...config })
}

/** Undefined for the meta of a run that was not begun here. */
export function parseConfig(meta: string): StreamConfig | undefined {
  // Most other metas are not worth an exception.
  if (!meta.startsWith('{"durableStream":')) return undefined
  const config: unknown = JSON.parse(meta)
  return isRecord(config) && config.durableStream === FORMAT
    ? (config as unknown as StreamConfig)
    : undefined
}

/** Without parameters, in lower case: types that differ in nothing else are equal. */
export function mimeOf(contentType: string): string {
  return (contentType.split(';')[0] as string).trim().toLowerCase()
}
