/** How a run looks to its readers: the same events, but what the package adds differs. */
import { LastPage, type Page } from '../delivery/pages.js'
import { NO_DATA } from '../wire/frames.js'
import { cursorPage } from './page.js'
import type { Ending } from './state.js'

/** Also of a run whose entries were deleted while it was read. */
type ShownEnding = Ending | { readonly state: 'deleted'; readonly error?: undefined }

export interface Format {
  /** Whether events carry their offsets, so that a reader can resume. */
  readonly hasIds: boolean
  /** A frame in place of `sse.gap`. */
  readonly gap: string | undefined
  /** The text of the last event, in place of the close event. */
  readonly done: string | undefined
  readonly headers: Record<string, string>
  /** What a reader that has everything gets once. */
  cursorAt(offset: string, pingInterval: number | false): Page | undefined
  lastPage(ending: ShownEnding): LastPage
}

export type FormatName = 'events' | 'ui-messages' | 'openai'

export const FORMATS: Record<FormatName, Format> = {
  events: {
    hasIds: true,
    gap: undefined,
    done: undefined,
    headers: {},
    cursorAt: cursorPage,
    lastPage: ending => new LastPage(dataOf(ending)),
  },
  // The stream protocol of the AI SDK: https://ai-sdk.dev/docs/ai-sdk-ui/stream-protocol
  'ui-messages': {
    hasIds: false,
    gap: dataOf({ type: 'error', errorText: 'A part of the answer is missing' }),
    done: '[DONE]',
    headers: { 'x-vercel-ai-ui-message-stream': 'v1' },
    cursorAt: () => undefined,
    lastPage({ state, error }) {
      if (state === 'done') return NOTHING
      if (state === 'stopped') return new LastPage(dataOf({ type: 'abort' }))
      return new LastPage(dataOf({ type: 'error', errorText: error ?? UNFINISHED }))
    },
  },
  // As the Chat Completions API streams: https://platform.openai.com/docs/api-reference/chat-streaming
  openai: {
    hasIds: false,
    gap: errorData('A part of the answer is missing'),
    done: '[DONE]',
    headers: {},
    cursorAt: () => undefined,
    lastPage({ state, error }) {
      if (state === 'done' || state === 'stopped') return NOTHING
      return new LastPage(errorData(error ?? UNFINISHED))
    },
  },
}

const NOTHING = new LastPage(NO_DATA)

const UNFINISHED = 'The answer was not finished'

function errorData(message: string): string {
  return dataOf({ error: { message, type: 'server_error' } })
}

function dataOf(data: object): string {
  return `data: ${JSON.stringify(data)}\n\n`
}
