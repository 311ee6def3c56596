import { randomBytes } from 'node:crypto'

/** A whole number drawn evenly from both ends and all between. */
export function randomBetween([min, max]: readonly [number, number]): number {
  return min + Math.floor(Math.random() * (max - min + 1))
}

/** Eight characters that no other append of any process has; drawn in bulk, as randomness is dear. */
export function nonceSource(): () => string {
  let pool = ''
  let used = 0
  return () => {
    if (used === pool.length) {
      pool = randomBytes(6 * 512).toString('base64url')
      used = 0
    }
    used += 8
    return pool.slice(used - 8, used)
  }
}
