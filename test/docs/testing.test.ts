/** The tests in docs/testing.md run as they are. */
import { describe } from 'vitest'
import { importSnippet } from '../helpers/run-snippets.js'

describe('docs/testing.md', async () => {
  await importSnippet('docs/testing.md', 'route.test.js')
  await importSnippet('docs/testing.md', 'client.test.js')
})
