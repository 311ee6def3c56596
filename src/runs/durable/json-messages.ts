/** JSON mode (section 9.1): each body is one message, or an array of messages. */

/**
 * The most messages of one body. A store adds them in one step, or a reader could see a part of them: on Redis that
 * is a script, and 100,000 messages keep it from other work for a few tenths of a second. A batch of the official
 * producer, 1 MiB, fits if its messages have 10 characters or more.
 */
export const MAX_MESSAGES = 100_000

const utf8 = new TextDecoder('utf-8', { fatal: true })

/**
 * The messages of a body, each as its text. Not parsed and written again, because that would change what
 * JavaScript cannot hold: 12345678901234567890 would come back as 12345678901234567000.
 *
 * @returns of a body that has too many, one more than {@link MAX_MESSAGES}.
 * @throws SyntaxError for a body that is not JSON.
 */
export function messagesOf(body: Buffer): string[] {
  if (body.length === 0) return []
  const text = decode(body)
  return Array.isArray(JSON.parse(text)) ? elementsOf(text.trim()) : [text.trim()]
}

export function arrayOf(messages: readonly string[]): string {
  return `[${messages.join(',')}]`
}

function decode(body: Buffer): string {
  try {
    return utf8.decode(body)
  } catch {
    throw new SyntaxError('it is not UTF-8')
  }
}

/** The elements of an array that is known to be valid JSON. */
function elementsOf(array: string): string[] {
  const elements: string[] = []
  let depth = 0
  let start = 1
  for (let at = 0; at < array.length; at++) {
    const character = array[at]
    if (character === '"') at = endOfString(array, at)
    else if (character === '[' || character === '{') depth += 1
    else if (character === ']' || character === '}') depth -= 1
    const isEnd = depth === 0 || (depth === 1 && character === ',')
    if (!isEnd) continue
    const element = array.slice(start, at).trim()
    // Only an empty array has an empty element.
    if (element !== '') elements.push(element)
    // A body of 10 MiB can have millions, which would take more memory than the body itself many times over.
    if (elements.length > MAX_MESSAGES) break
    start = at + 1
  }
  return elements
}

/** Where the string that begins here ends. */
function endOfString(text: string, start: number): number {
  for (let at = start + 1; ; at++) {
    if (text[at] === '\\') at += 1
    else if (text[at] === '"') return at
  }
}
