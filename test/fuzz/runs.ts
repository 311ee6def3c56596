/** How long the fuzz tests run, their seed, and the corpus that is replayed before them. */
import { readdirSync, readFileSync } from 'node:fs'
import fc, { type IAsyncProperty, type IProperty } from 'fast-check'

/** Cases in all fuzz tests together; `npm run fuzz -- --runs 1000000` makes a long run of it. */
const RUNS = whole('FUZZ_RUNS', 20_000)

/** `npm run fuzz -- --seed n` repeats the run that printed this seed. */
const SEED = whole('FUZZ_SEED', Math.trunc(Math.random() * 2 ** 31))

/** Far more than the cases take, so that only a test that hangs runs into it. */
export const TIMEOUT = 120_000 + RUNS * 5

/** Checks a property on its share of all cases, and prints the seed that repeats the run. */
export async function fuzz<Values>(
  what: string,
  share: number,
  property: IProperty<Values> | IAsyncProperty<Values>,
): Promise<void> {
  const numRuns = Math.ceil(RUNS * share)
  console.log(`fuzz: ${numRuns} cases of ${what}, seed ${SEED}`)
  await fc.assert(property as IAsyncProperty<Values>, { numRuns, seed: SEED })
}

/**
 * The inputs in a folder of the corpus, by file name. The files are text, so that a diff shows them: line
 * breaks in a file mean nothing, and {@link fromNotation} says how bytes are written.
 */
export function corpus(folder: string): [name: string, bytes: Buffer][] {
  const url = new URL(`corpus/${folder}/`, import.meta.url)
  return readdirSync(url)
    .sort()
    .map(name => [name, fromNotation(readFileSync(new URL(name, url), 'utf8'))])
}

/** Reads `\r`, `\n`, `\t`, `\\`, `\xHH` and, for many times the same byte, `\{20000 a}`. */
function fromNotation(text: string): Buffer {
  const plain = text
    .replace(/\r?\n/g, '')
    .replace(/\\(?:([rnt\\])|x([0-9a-f]{2})|\{(\d+) (.)\})/g, (_, simple, hex, times, char) => {
      if (simple !== undefined) return SIMPLE[simple as keyof typeof SIMPLE]
      if (hex !== undefined) return String.fromCharCode(Number.parseInt(hex, 16))
      return char.repeat(Number(times))
    })
  return Buffer.from(plain, 'latin1')
}

const SIMPLE = { r: '\r', n: '\n', t: '\t', '\\': '\\' }

/** Bytes in the notation of the corpus, for the message of a failure. */
export function toNotation(bytes: Buffer): string {
  return bytes
    .toString('latin1')
    .replace(/(.)\1{63,}/g, run => `\\{${run.length} ${run[0]}}`)
    .replace(/\\(?!\{\d+ .\})/g, '\\\\')
    .replace(/\r/g, '\\r')
    .replace(/\n/g, '\\n\n')
    .replace(/[^\x20-\x7e\n]/g, char => `\\x${char.charCodeAt(0).toString(16).padStart(2, '0')}`)
}

function whole(name: string, otherwise: number): number {
  const value = Number(process.env[name] ?? otherwise)
  if (Number.isSafeInteger(value) && value > 0) return value
  throw new TypeError(`${name} must be a whole number above 0; got ${process.env[name]}`)
}
