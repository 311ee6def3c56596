/** The client as a plain script, built from the source, so that bugs can be planted in it. */
import { createRequire } from 'node:module'
import { fileURLToPath } from 'node:url'

export interface Mutant {
  readonly find: string
  readonly replace: string
}

/** Not minified, so that the lines that a mutant replaces can be found. */
export async function bundleClient(mutant?: Mutant): Promise<string> {
  // The bundler is tsup's own, so that there is no second version to keep.
  const { build } = createRequire(import.meta.resolve('tsup'))('esbuild') as {
    build(options: object): Promise<{ outputFiles: { text: string }[] }>
  }
  const { outputFiles } = await build({
    entryPoints: [fileURLToPath(new URL('../../src/client/global.ts', import.meta.url))],
    bundle: true,
    format: 'iife',
    target: 'es2022',
    write: false,
  })
  const text = outputFiles[0]?.text ?? ''
  if (mutant === undefined) return text
  if (!text.includes(mutant.find)) throw new Error(`src/client no longer has: ${mutant.find}`)
  return text.replace(mutant.find, () => mutant.replace)
}
