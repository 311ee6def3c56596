/** Random changes to valid inputs. Purely random bytes rarely get past a parser's first check. */
import fc, { type Arbitrary } from 'fast-check'

/** One of these texts with some pieces cut out, repeated, replaced or inserted. */
export function mutated(texts: Arbitrary<string>, pieces: Arbitrary<string>): Arbitrary<string> {
  const at = fc.double({ min: 0, max: 1, noNaN: true })
  const change = fc.record({
    how: fc.constantFrom('cut', 'repeat', 'replace', 'insert', 'end'),
    ...{ at, length: fc.nat(6), piece: pieces },
  })
  return fc.tuple(texts, fc.array(change, { maxLength: 4 })).map(([text, changes]) =>
    changes.reduce((old, { how, at, length, piece }) => {
      const from = Math.floor(at * old.length)
      const [before, middle, after] = [
        old.slice(0, from),
        old.slice(from, from + length),
        old.slice(from + length),
      ]
      if (how === 'cut') return before + after
      if (how === 'repeat') return before + middle + middle + after
      if (how === 'replace') return before + piece + after
      if (how === 'insert') return before + piece + middle + after
      return before
    }, text),
  )
}

/** Pieces that mean something in an event stream, an entry or a header, and pieces that should not. */
export const hostileText: Arbitrary<string> = fc
  .array(
    fc.oneof(
      fc.constantFrom(
        ...['\n', '\r', '\r\n', '\n\n', '\r\r', ':', ': ', ' ', '\0', '\t', '\v', '\f'],
        ...['\ufeff', '\u0085', '\u2028', '\u200b', '\u202e', '\ud83d', '\ude00', '😀', 'é', 'a'],
        ...['data', 'data: x\n', 'id: 7\n', 'event: b\n', 'event: sse.gap\n', 'retry: 1\n', '{}'],
        ...['*', '@ada', '#news', '-ada', '?', '.', '-', ';', '=', 'sse1 n 1 -\n', 'sse.end'],
      ),
      fc.string({ unit: 'binary', maxLength: 3 }),
    ),
    { maxLength: 8 },
  )
  .map(parts => parts.join(''))
