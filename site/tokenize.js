// @ts-check
/**
 * The words of a text, for the search. Chinese is written without spaces, so a sentence would be one word.
 * The function runs in the page too and is sent there as text: it must use nothing outside of itself.
 *
 * @param {string} text
 */
export function tokenize(text) {
  const segmenter = new Intl.Segmenter('zh', { granularity: 'word' })
  return text.split(/[\n\r\p{Z}\p{P}]+/u).flatMap(word => {
    if (!/\p{Script=Han}/u.test(word)) return [word]
    return Array.from(segmenter.segment(word), ({ segment }) => segment)
  })
}
