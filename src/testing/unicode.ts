/** A text that no engine may change. */

/** Code points of all lengths in UTF-8: every one of the BMP but the surrogates, and a sample beyond. */
export function allOfUnicode(): string {
  const some: number[] = []
  for (let point = 0; point <= 0xffff; point++) {
    if (point < 0xd800 || point > 0xdfff) some.push(point)
  }
  for (let point = 0x10000; point <= 0x10ffff; point += 97) some.push(point)
  return some.map(point => String.fromCodePoint(point)).join('')
}
