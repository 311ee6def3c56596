/** docs/interop.md says what the clients do that run without a browser. */
import { expect, test } from 'vitest'
import { nodeClients } from './clients.js'
import { playAll, turns } from './play.js'
import { isWriting, meanings, partOfPage, tableOf, writePart } from './table.js'

const AT_ONCE = 32

test('the page explains each behaviour as the scenarios do', () => {
  if (isWriting) writePart('behaviours', meanings())
  expect(partOfPage('behaviours')).toBe(meanings())
})

test('each client without a browser does what the page says', { timeout: 240_000 }, async () => {
  // They mostly wait for their own delays, but all at once would keep each other from their time limits.
  const turn = turns(AT_ONCE)
  const rows = await Promise.all(
    nodeClients.map(async client => [client.name, await playAll(client, turn)] as const),
  )
  const table = tableOf(Object.fromEntries(rows))
  if (isWriting) writePart('node table', table)
  expect(table).toBe(partOfPage('node table'))
})
