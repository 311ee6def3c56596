/** The client as a plain script, built from the source, so that bugs can be planted in it. */
import { createRequire } from 'node:module'
import { fileURLToPath } from 'node:url'

export interface Mutant {
  readonly find: string
  readonly replace: string
}

export async function bundleClient(mutant?: Mutant): Promise<string> {
  // Not minified, so that the line can be found.
  const text = await bundle({ entryPoints: [pathOf('../../src/client/global.ts')] })
  if (mutant === undefined) return text
  if (!text.includes(mutant.find)) throw new Error(`src/client no longer has: ${mutant.find}`)
  return text.replace(mutant.find, () => mutant.replace)
}

/** A plain script of the files and packages that esbuild's options name. */
export async function bundle(options: object): Promise<string> {
  // The bundler is tsup's own, so that there is no second version to keep.
  const { build } = createRequire(import.meta.resolve('tsup'))('esbuild') as {
    build(options: object): Promise<{ outputFiles: { text: string }[] }>
  }
  const { outputFiles } = await build({
    bundle: true,
    format: 'iife',
    target: 'es2022',
    write: false,
    ...options,
  })
  return outputFiles[0]?.text ?? ''
}

export function pathOf(relative: string): string {
  return fileURLToPath(new URL(relative, import.meta.url))
}
