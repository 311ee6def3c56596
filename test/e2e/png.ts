/**
 * Shrinks the PNG of a screenshot to a quarter, because it is kept in git: a palette of 256 colours
 * replaces three or four bytes per pixel. Rare colours, at the edges of letters, become the nearest
 * colour of the palette. See the PNG standard, https://www.w3.org/TR/png-3/.
 */
import { crc32, deflateSync, inflateSync } from 'node:zlib'

const SIGNATURE = 8

export function shrinkPng(png: Uint8Array): Uint8Array {
  const file = Buffer.from(png)
  const header = chunk(file, 'IHDR')[0] as Buffer
  const width = header.readUInt32BE(0)
  const depth = header[9] === 6 ? 4 : 3
  const rows = unfilter(inflateSync(Buffer.concat(chunk(file, 'IDAT'))), width * depth, depth)

  const colours = rows.map(row =>
    Array.from({ length: width }, (_, x) => row.readUIntBE(x * depth, 3)),
  )
  const counts = new Map<number, number>()
  for (const colour of colours.flat()) counts.set(colour, (counts.get(colour) ?? 0) + 1)
  const palette = [...counts.keys()]
    .sort((a, b) => Number(counts.get(b)) - Number(counts.get(a)))
    .slice(0, 256)
  const index = new Map([...counts.keys()].map(colour => [colour, nearest(palette, colour)]))

  const indexed = colours.map(row => Buffer.from([0, ...row.map(one => Number(index.get(one)))]))
  const newHeader = Buffer.from(header)
  newHeader[9] = 3 // indexed colour
  return Buffer.concat([
    file.subarray(0, SIGNATURE),
    encode('IHDR', newHeader),
    encode('PLTE', Buffer.from(palette.flatMap(parts))),
    encode('IDAT', deflateSync(Buffer.concat(indexed), { level: 9 })),
    encode('IEND', Buffer.alloc(0)),
  ])
}

function chunk(file: Buffer, wanted: string): Buffer[] {
  const found: Buffer[] = []
  for (let at = SIGNATURE; at < file.length; ) {
    const length = file.readUInt32BE(at)
    const type = file.toString('latin1', at + 4, at + 8)
    if (type === wanted) found.push(file.subarray(at + 8, at + 8 + length))
    at += 12 + length
  }
  return found
}

function encode(type: string, data: Buffer): Buffer {
  const body = Buffer.concat([Buffer.from(type, 'latin1'), data])
  const around = Buffer.alloc(8)
  around.writeUInt32BE(data.length, 0)
  around.writeUInt32BE(crc32(body), 4)
  return Buffer.concat([around.subarray(0, 4), body, around.subarray(4)])
}

/** Reverts the filter of each row, which makes it compress well (PNG, 9). */
function unfilter(data: Buffer, length: number, depth: number): Buffer[] {
  const rows: Buffer[] = []
  let above = Buffer.alloc(length)
  for (let at = 0; at < data.length; at += length + 1) {
    const row = Buffer.from(data.subarray(at + 1, at + 1 + length))
    for (let i = 0; i < length; i++) {
      const left = row[i - depth] ?? 0
      const up = above[i] ?? 0
      const upLeft = above[i - depth] ?? 0
      const guesses = [0, left, up, (left + up) >> 1, paeth(left, up, upLeft)]
      row[i] = Number(row[i]) + Number(guesses[Number(data[at])])
    }
    rows.push(row)
    above = row
  }
  return rows
}

function paeth(left: number, up: number, upLeft: number): number {
  const guess = left + up - upLeft
  const [a, b, c] = [Math.abs(guess - left), Math.abs(guess - up), Math.abs(guess - upLeft)]
  if (a <= b && a <= c) return left
  return b <= c ? up : upLeft
}

function parts(colour: number): [number, number, number] {
  return [colour >> 16, (colour >> 8) & 255, colour & 255]
}

function nearest(palette: number[], colour: number): number {
  const [r, g, b] = parts(colour)
  const distances = palette.map(one => {
    const [x, y, z] = parts(one)
    return (r - x) ** 2 + (g - y) ** 2 + (b - z) ** 2
  })
  return distances.indexOf(Math.min(...distances))
}
