/** Starts a display in memory before all browser tests, because WebKitGTK has no headless mode. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import type { Readable } from 'node:stream'
import type { TestProject } from 'vitest/node'
import { requireProgram } from '../setup/needs.js'
import { end, endWithUs } from './process.js'

declare module 'vitest' {
  interface ProvidedContext {
    /** The value of DISPLAY, such as `:1`. */
    display: string
  }
}

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const args = ['-displayfd', '3', '-screen', '0', '1920x1600x24', '-nolisten', 'tcp']
  const xvfb = spawn(requireProgram('Xvfb'), args, {
    detached: true,
    stdio: ['ignore', 'ignore', 'ignore', 'pipe'],
  })
  const callOff = endWithUs(xvfb)
  // Xvfb chooses a free number itself and reports it when it is ready.
  const [number] = await Promise.race([
    once(xvfb.stdio[3] as Readable, 'data'),
    once(xvfb, 'exit').then(([code]) => {
      throw new Error(`Xvfb ended with ${code} before it had a display`)
    }),
  ])
  project.provide('display', `:${String(number).trim()}`)
  return async () => {
    await end(xvfb)
    callOff()
  }
}
