/**
 * Checks options against a table of rules, once, when they are given; the engines use it too. The error
 * names the option, what is expected, what came, and the likely fix.
 */
import { didYouMean, got } from './errors.js'

export interface Rule {
  /** Undefined if there is none; `accepts` then says whether the option may be left out. */
  readonly default?: unknown
  readonly expected: string
  readonly accepts: (value: unknown) => boolean
  /** Describes what came, for an option whose value must not appear in a log. */
  readonly got?: (value: unknown) => string
}

export const MIB = 1024 * 1024

/** Node's longest timer. A longer one fires at once, which would turn "very rarely" into a busy loop. */
export const MAX_DELAY = 2 ** 31 - 1

export const isWhole = (value: unknown, min: number, max = Number.MAX_SAFE_INTEGER) =>
  Number.isInteger(value) && (value as number) >= min && (value as number) <= max

export const isRange = (value: unknown, min: number) =>
  Array.isArray(value) &&
  value.length === 2 &&
  value.every(end => isWhole(end, min, MAX_DELAY)) &&
  value[0] <= value[1]

export const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

export const isFunction = (value: unknown) => typeof value === 'function'

export const count = (fallback: number): Rule => ({
  default: fallback,
  expected: 'a whole number of at least 1, or Infinity',
  accepts: value => value === Number.POSITIVE_INFINITY || isWhole(value, 1),
})

export const bytes = (fallback: number): Rule => ({
  default: fallback,
  expected: 'a whole number of bytes, at least 1',
  accepts: value => isWhole(value, 1),
})

export const whole = (fallback: number | undefined, max: number, unit = ''): Rule => ({
  default: fallback,
  expected: `${unit}a whole number from 1 to ${max}`,
  accepts: value => isWhole(value, 1, max),
})

/** How long to wait for an engine: at most an hour. */
export const timeoutMs = (fallback?: number): Rule => whole(fallback, 3_600_000, 'milliseconds, ')

export const oneOf = (...values: string[]): Rule => ({
  default: values[0],
  expected: values.map(value => `'${value}'`).join(' or '),
  accepts: value => values.includes(value as string),
})

export const aBoolean = (fallback: boolean): Rule => ({
  default: fallback,
  expected: 'a boolean',
  accepts: value => typeof value === 'boolean',
})

export const optional = (expected: string, accepts: Rule['accepts']): Rule => ({
  default: undefined,
  expected,
  accepts: value => value === undefined || accepts(value),
})

export const aFunction = (expected: string): Rule => optional(expected, isFunction)

/**
 * @param example what the message shows in place of options that are not an object.
 * @param fix the end of the message.
 * @throws TypeError for an unknown option; its message begins with `where`.
 */
export function checkNames(
  where: string,
  options: unknown,
  known: readonly string[],
  example = '',
  fix = '',
): void {
  if (options === undefined) return
  if (!isRecord(options)) {
    const such = example && ` such as ${example}`
    throw new TypeError(`${where}: options must be an object${such}; got ${got(options)}${fix}`)
  }
  for (const name in options) {
    if (!known.includes(name)) {
      throw new TypeError(`${where}: unknown option "${name}"${didYouMean(name, known)}${fix}`)
    }
  }
}

/** @throws TypeError for an unknown or wrong option; its message begins with `where`. */
export function resolve<Name extends string>(
  where: string,
  rules: Record<Name, Rule>,
  given: unknown,
): Record<Name, unknown> {
  if (!isRecord(given))
    throw new TypeError(`${where}: options must be an object; got ${got(given)}`)
  const names = Object.keys(rules) as Name[]
  checkNames(where, given, names)
  const resolved = {} as Record<Name, unknown>
  for (const name of names) {
    const rule = rules[name]
    const value = given[name] === undefined ? rule.default : given[name]
    if (!rule.accepts(value)) {
      const came = rule.got?.(value) ?? `${got(value)}${hint(value)}`
      throw new TypeError(`${where}: option "${name}" must be ${rule.expected}; got ${came}`)
    }
    resolved[name] = value
  }
  return resolved
}

/** The likely fix for a number that came as a string, such as `'30s'`. */
function hint(value: unknown): string {
  const [, digits, unit] = (typeof value === 'string' && /^(\d+) ?(ms|s|m)?$/.exec(value)) || []
  if (digits === undefined) return ''
  const factor = unit === 's' ? 1000 : unit === 'm' ? 60_000 : 1
  return `; write the number ${Number(digits) * factor}, without quotes or unit`
}
