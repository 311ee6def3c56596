/** The tables of docs/interop.md: a cell says what was seen, a footnote says why or what helps. */
import { readFileSync, writeFileSync } from 'node:fs'
import { behaviours } from './behaviours.js'
import type { Row } from './play.js'

const PAGE = new URL('../../docs/interop.md', import.meta.url)

/** The same text has the same number in all tables, so it is taken from the text. */
function noteNumber(notes: string[], note: string): number {
  if (!notes.includes(note)) notes.push(note)
  return notes.indexOf(note) + 1
}

/** A table in Markdown, aligned, because no formatter reads the page. */
export function tableOf(rows: Record<string, Row>): string {
  const notes: string[] = []
  const names = behaviours.map(({ name }) => name)
  const cells = Object.entries(rows).map(([client, row]) => [
    client,
    ...names.map(name => {
      const { mark, note } = row[name] ?? { mark: '?' }
      return note === undefined ? mark : `${mark} (${noteNumber(notes, note)})`
    }),
  ])
  const all = [['', ...names], ...cells]
  const widths = all[0]?.map((_, i) => Math.max(...all.map(line => line[i]?.length ?? 0))) ?? []
  const line = (texts: string[]) =>
    `| ${texts.map((text, i) => text.padEnd(widths[i] ?? 0)).join(' | ')} |`
  const [head = [], ...body] = all
  const table = [head, widths.map(width => '-'.repeat(width)), ...body].map(line).join('\n')
  return `${table}\n\n${notes.map((note, i) => `${i + 1}. ${note}`).join('\n')}`
}

/** What each column means, from the scenarios themselves. */
export function meanings(): string {
  return behaviours.map(({ name, meaning }) => `- **${name}**: ${meaning}`).join('\n')
}

export function partOfPage(part: string): string {
  return placeOf(part, readFileSync(PAGE, 'utf8'))[0]
}

/** `INTEROP=write`, as in `npm run interop`, writes the part; otherwise a test compares it. */
export const isWriting = process.env.INTEROP === 'write'

export function writePart(part: string, text: string): void {
  const page = readFileSync(PAGE, 'utf8')
  const [old, pattern] = placeOf(part, page)
  if (old !== text)
    writeFileSync(
      PAGE,
      page.replace(pattern, () => text),
    )
}

function placeOf(part: string, page: string): [string, RegExp] {
  const pattern = new RegExp(`(?<=<!-- ${part} -->\\n).*?(?=\\n<!-- /${part} -->)`, 's')
  const found = pattern.exec(page)
  if (found === null) throw new Error(`docs/interop.md has no place for "${part}"`)
  return [found[0], pattern]
}
