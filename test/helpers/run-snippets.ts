/** Runs code of the documentation, as a reader who copies it would, with Vitest in place of Node's test runner. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { readPage, snippetsOf } from './snippets.js'

/**
 * Imports a snippet. If it declares tests, call this while tests are collected.
 *
 * @param file The name in the first line of the snippet. It can import others of its page by their names.
 * @returns What the snippet exports.
 */
export async function importSnippet(page: string, file: string): Promise<Record<string, unknown>> {
  const folder = await mkdtemp(join(tmpdir(), 'snippets-'))
  try {
    for (const { code } of snippetsOf(page, readPage(page))) {
      const [, name] = /^\/\/ ([\w.-]+\.[jt]s)\n/.exec(code) ?? []
      if (name === undefined) continue
      const forVitest = code.replace("from 'node:test'", "from 'vitest'")
      await writeFile(join(folder, name), forVitest)
    }
    return await import(pathToFileURL(join(folder, file)).href)
  } finally {
    await rm(folder, { recursive: true })
  }
}
