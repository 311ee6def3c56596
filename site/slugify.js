// @ts-check
/**
 * The anchor that GitHub gives a heading, so that a link to a section works both there and on the site.
 *
 * @param {string} heading
 */
export function slugify(heading) {
  const words = heading.trim().toLowerCase()
  return words.replace(/[^\p{L}\p{N}_ -]/gu, '').replaceAll(' ', '-')
}
