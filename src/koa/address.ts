/** The address that a request comes from, as the limits for one address count it. */
import { isIP, isIPv4 } from 'node:net'
import type { Context } from 'koa'

/**
 * An IPv4 address, or the /64 network of an IPv6 address, because a host can use every address in it.
 * Undefined where there is none, as on a Unix socket.
 *
 * @param proxies how many proxies in front of the server each append the address of their client to
 * `X-Forwarded-For`. What stands further to the left is written by the client.
 */
export function addressOf(ctx: Context, proxies: number): string | undefined {
  const remote = ctx.req.socket.remoteAddress ?? ''
  if (proxies === 0) return networkOf(remote)
  const forwarded = ctx.get('X-Forwarded-For').split(',')
  const client = forwarded.at(-Math.min(proxies, forwarded.length)) as string
  return networkOf(client.trim()) ?? networkOf(remote)
}

/** Some proxies append the port: `192.0.2.1:4711`, `[2001:db8::1]:4711`. */
const WITH_PORT = /^\[(.+)\](?::\d+)?$|^([\d.]+):\d+$/

/** @returns Undefined for what is no address. */
export function networkOf(given: string): string | undefined {
  const [, ipv6, ipv4] = WITH_PORT.exec(given) ?? []
  const [address = ''] = (ipv6 ?? ipv4 ?? given).split('%', 1)
  if (isIP(address) === 0) return undefined
  // A copy, because a slice would keep the whole header in memory, for each address that is counted.
  if (isIPv4(address)) return Buffer.from(address).toString()
  const groups = groupsOf(address)
  const [high = 0, low = 0] = groups.slice(6)
  // An IPv4 client of a server that listens on `::`.
  const isMapped = groups.slice(0, 6).join() === '0,0,0,0,0,65535'
  if (isMapped) return [high >> 8, high & 255, low >> 8, low & 255].join('.')
  return `${groups
    .slice(0, 4)
    .map(group => group.toString(16))
    .join(':')}::/64`
}

/** The eight groups of an IPv6 address. */
function groupsOf(address: string): number[] {
  // The URL parser knows all notations, and writes them in one.
  const [left, right] = new URL(`http://[${address}]`).hostname.slice(1, -1).split('::')
  const first = left ? left.split(':') : []
  const last = right ? right.split(':') : []
  const zeros = Array<string>(8 - first.length - last.length).fill('0')
  return [...first, ...zeros, ...last].map(group => Number.parseInt(group, 16))
}
