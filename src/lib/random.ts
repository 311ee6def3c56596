import { randomBytes } from 'node:crypto'

/** A random whole number from `min` to `max`, both included. */
export function randomBetween([min, max]: readonly [number, number]): number {
  return min + Math.floor(Math.random() * (max - min + 1))
}

/**
 * Makes nonces: eight characters, unique among all processes. The random bytes are drawn in bulk
 * because each draw is expensive.
 */
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

/** Eight of the characters `[0-9a-z]`, 41 bits at random. */
export function newGeneration(): string {
  const digits = BigInt(`0x${randomBytes(8).toString('hex')}`).toString(36)
  return digits.slice(-8).padStart(8, '0')
}
