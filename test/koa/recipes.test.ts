/** Recipes of docs/recipes.md that are tests themselves. */
import { describe } from 'vitest'
import { importSnippet } from '../helpers/run-snippets.js'

describe('a route is tested with supertest alone, as docs/recipes.md shows (fault 107)', async () => {
  await importSnippet('docs/recipes.md', 'supertest.test.js')
})
