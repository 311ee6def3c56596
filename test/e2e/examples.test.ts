import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { afterAll, describe, expect, onTestFinished, test } from 'vitest'

const examples = new URL('../../example/', import.meta.url)
const names = readdirSync(examples).filter(name => name !== 'shared')
/** Where the examples keep what happens, instead of in their folders. */
const data = mkdtempSync(join(tmpdir(), 'koa-sse-pool-examples-'))
afterAll(() => rmSync(data, { recursive: true }))
const runner = fileURLToPath(new URL('../../scripts/example.js', import.meta.url))

describe('npm run example', () => {
  test.each(names)('starts %s, which ends when it is told to', async name => {
    const example = run(name)
    const lines = createInterface({ input: example.stdout })
    const [url] = await once(lines, 'line')
    const response = await fetch(url)
    expect(response.status).toBe(200)
    expect(await response.text()).toContain('koa-sse-pool')

    example.kill('SIGTERM')
    expect(await once(example, 'exit')).toEqual([0, null])
  })

  test('ends the server when only npm gets the signal', async () => {
    const env = { ...process.env, PORT: '0', DATA: join(data, 'npm.db') }
    const npm = spawn('npm', ['run', '--silent', 'example', '--', 'tokens'], { env })
    onTestFinished(() => void npm.kill('SIGTERM'))
    npm.stderr.resume()
    const [url] = await once(createInterface({ input: npm.stdout }), 'line')
    expect((await fetch(url)).status).toBe(200)

    npm.kill('SIGTERM')
    // The server inherits npm's output, so this is emitted only after the server has ended too.
    await once(npm, 'close')
    await expect(fetch(url)).rejects.toThrow()
  })

  test.each([[[]], [['nonsense']]])('names the examples if it is given %j', async args => {
    const example = run(...args)
    const [errors, [code]] = await Promise.all([
      example.stderr.toArray(),
      once(example, 'exit'),
    ] as const)
    expect(code).toBe(1)
    for (const name of names) expect(errors.join('')).toContain(`npm run example -- ${name}\n`)
  })
})

function run(...args: string[]) {
  const env = { ...process.env, PORT: '0', DATA: join(data, `${args[0]}.db`) }
  const example = spawn(process.execPath, [runner, ...args], { env })
  onTestFinished(() => void example.kill('SIGTERM'))
  return example
}
