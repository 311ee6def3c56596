/** docs/interop.md says what the clients do that run without a browser. */
import { expect, test } from 'vitest'
import { nodeClients } from './clients.js'
import { playAll } from './play.js'
import { isWriting, meanings, partOfPage, tableOf, writePart } from './table.js'

test('the page explains each behaviour as the scenarios do', () => {
  if (isWriting) writePart('behaviours', meanings())
  expect(partOfPage('behaviours')).toBe(meanings())
})

test('each client without a browser does what the page says', { timeout: 240_000 }, async () => {
  // The clients mostly wait for their own delays.
  const rows = await Promise.all(
    nodeClients.map(async client => [client.name, await playAll(client)] as const),
  )
  const table = tableOf(Object.fromEntries(rows))
  if (isWriting) writePart('node table', table)
  expect(table).toBe(partOfPage('node table'))
})
