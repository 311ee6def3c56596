// @ts-check
// Formats figures as Markdown: medians, the spread, and ratios to one server's of the same round.

/** @typedef {Map<string, Map<string, (number | undefined)[]>>} Figures metric → server → rounds */

/**
 * @param {Figures} figures
 * @param {Record<string, string>} titles of the rows
 * @param {{ file: string, title: string }[]} servers
 * @param {string} [reference] the server that ratios are to
 */
export function tableOf(figures, titles, servers, reference = 'net') {
  const rows = [
    ['', ...servers.map(server => server.title)],
    ['---', ...servers.map(() => '--:')],
  ]
  for (const [metric, title] of Object.entries(titles)) {
    const byServer = figures.get(metric)
    if (byServer === undefined) continue
    const base = byServer.get(reference) ?? []
    rows.push([title, ...servers.map(({ file }) => cellOf(byServer.get(file) ?? [], base))])
  }
  return markdownOf(rows)
}

/** @param {string[][]} rows the second one has the alignment of the columns */
export function markdownOf(rows) {
  return rows.map(row => `| ${row.join(' | ')} |`).join('\n')
}

/** @param {(number | undefined)[]} rounds @param {(number | undefined)[]} base */
function cellOf(rounds, base) {
  const values = rounds.filter(value => value !== undefined)
  if (values.length === 0) return '–'
  const spread = ` (${short(Math.min(...values))}–${short(Math.max(...values))})`
  const ratios = rounds.flatMap((value, round) => {
    const by = base[round]
    // A ratio to a figure close to zero is meaningless.
    return value === undefined || by === undefined || by < 0.05 ? [] : [value / by]
  })
  const ratio = ratios.length === 0 ? '' : ` ×${median(ratios).toFixed(2)}`
  return `**${short(median(values))}**${ratio}${values.length === 1 ? '' : spread}`
}

/** @param {number[]} values */
export function median(values) {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = sorted.length / 2
  const low = sorted[Math.ceil(middle) - 1] ?? Number.NaN
  const high = sorted[Math.floor(middle)] ?? Number.NaN
  return (low + high) / 2
}

/** @param {number} value */
export function short(value) {
  const size = Math.abs(value)
  return value.toFixed(size >= 100 ? 0 : size >= 10 ? 1 : 2)
}
