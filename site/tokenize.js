// @ts-check
/**
 * The words of a text, for the search. Chinese is written without spaces, so it is taken in pairs of characters:
 * a word of two is found wherever it is. (Where `Intl.Segmenter` sees a word's ends depends on what is around it.)
 *
 * The function also runs in the page and is sent there as text, so it must not use anything outside of itself.
 *
 * @param {string} text
 */
export function tokenize(text) {
  return text.split(/[\n\r\p{Z}\p{P}]+/u).flatMap(word => {
    const runs = word.match(/\p{Script=Han}+|\P{Script=Han}+/gu) ?? ['']
    return runs.flatMap(run => {
      if (!/\p{Script=Han}/u.test(run)) return [run]
      const characters = Array.from(run)
      // The last one stays alone, so that a search for a single character finds it too.
      return characters.map((each, index) => each + (characters[index + 1] ?? ''))
    })
  })
}
