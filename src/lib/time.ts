/** Points in time that an app gives. */
import { got } from './errors.js'

/** In 1973. What is less is a time in seconds, such as the `exp` of a JWT, which would end every stream. */
const MIN_TIME = 1e11

/**
 * Milliseconds since the epoch; Infinity for `undefined` and `null`.
 *
 * @throws TypeError that names the field.
 */
export function timeOf(field: string, given: unknown): number {
  if (given === undefined || given === null) return Number.POSITIVE_INFINITY
  const time = given instanceof Date ? given.getTime() : given
  if (typeof time === 'number' && time >= MIN_TIME) return time
  const isSeconds = typeof time === 'number' && time >= MIN_TIME / 1000
  const fix = isSeconds ? '. If it is in seconds, multiply it by 1000' : ''
  throw new TypeError(
    `${field} must be a Date or milliseconds since the epoch; got ${got(given)}${fix}`,
  )
}
