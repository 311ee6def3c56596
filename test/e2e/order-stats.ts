/** What the tests of example/order-stats do with its server and its page. */
import type { Socket } from 'node:net'
import pg from 'pg'
import { afterAll, beforeAll, expect, onTestFinished } from 'vitest'
import { startPostgres } from '../../example/order-stats/database.js'
import { start } from '../../example/order-stats/server.js'
import { type Page, waitFor } from './browser.js'
import { textOf } from './page.js'

/** The orders of the last three months. */
export const SEED = [3, 5, 2]

export let example: Awaited<ReturnType<typeof start>>
export let origin: string
/** The reasons for which tickets were refused. */
export let refusals: string[]

// One server per file, which ends with this process. Each test has its own database.
let postgres: Awaited<ReturnType<typeof startPostgres>>
let databases = 0

beforeAll(async () => {
  postgres = await startPostgres()
})
afterAll(() => postgres.stop())

export async function startExample(options: Parameters<typeof start>[0] = {}): Promise<void> {
  const name = `test_${++databases}`
  const client = new pg.Client(urlOf('postgres'))
  await client.connect()
  await client.query(`CREATE DATABASE ${name}`)
  await client.end()
  refusals = []
  const started = await start({
    databaseUrl: urlOf(name),
    seed: SEED,
    retryMs: 300,
    onRefused: why => refusals.push(why),
    ...options,
  })
  onTestFinished(async () => {
    started.server.closeAllConnections()
    await started.close()
  })
  example = started
  origin = `http://127.0.0.1:${started.port}`
}

function urlOf(database: string): string {
  return `postgresql://postgres@localhost/${database}?host=${encodeURIComponent(postgres.folder)}`
}

export function post(path: string, body: object): Promise<Response> {
  const headers = { 'Content-Type': 'application/json' }
  return fetch(`${origin}/${path}`, { method: 'POST', headers, body: JSON.stringify(body) })
}

export async function order(): Promise<void> {
  const response = await post('orders', { product: 'cup' })
  expect(response.status).toBe(201)
}

/** Cuts all connections, like a network failure. */
export function cut(): void {
  for (const client of example.pool.values()) {
    for (const { state } of client.streams) (state as { socket: Socket }).socket.destroy()
  }
}

export async function cookieOf(name: string, password: string): Promise<string> {
  const response = await post('session', { name, password })
  return response.headers
    .getSetCookie()
    .map(line => line.split(';')[0])
    .join('; ')
}

export async function signIn(page: Page, name = 'ada', password = 'may look'): Promise<void> {
  await waitFor(page, () => document.querySelector('#sign-in:not([hidden])'))
  await page.eval(
    (...values) => {
      const form = document.querySelector('#sign-in') as HTMLFormElement
      const inputs = form.querySelectorAll('input')
      for (const [i, input] of inputs.entries()) input.value = String(values[i])
      form.requestSubmit()
    },
    name,
    password,
  )
}

export function totalIs(page: Page, total: number, atLeast = ''): Promise<void> {
  return waitFor(
    page,
    (wanted, isEnough) => {
      const shown = Number(document.querySelector('#total')?.textContent)
      return isEnough ? shown >= Number(wanted) : shown === wanted
    },
    total,
    atLeast,
  )
}

export function hasNote(page: Page, name: string): Promise<void> {
  return waitFor(page, wanted => document.querySelector(`#log [data-note="${wanted}"]`), name)
}

/** What has arrived, oldest first. */
export function arrived(page: Page): Promise<string[]> {
  return page.eval(() =>
    [...document.querySelectorAll<HTMLElement>('#log li')]
      .reverse()
      .map(({ dataset }) => dataset.note ?? `${dataset.event} ${dataset.how}`),
  )
}

export function tableOf(page: Page): Promise<number[]> {
  return page.eval(() =>
    [...document.querySelectorAll('#months tr')].map(row => Number(row.children[1]?.textContent)),
  )
}

/** The heights of the parts of the bars, read from Chart.js. */
export function bars(page: Page): Promise<Record<'snapshot' | 'live' | 'replayed', number[]>> {
  return page.eval(() => {
    const { Chart } = window as unknown as {
      Chart: { getChart(id: string): { data: { datasets: { label: string; data: number[] }[] } } }
    }
    const { datasets } = Chart.getChart('chart').data
    return Object.fromEntries(datasets.map(({ label, data }) => [label, data])) as never
  })
}

export async function factsOf(page: Page) {
  const [tickets, snapshots, connections] = [
    await textOf(page, '#tickets'),
    await textOf(page, '#snapshots'),
    await textOf(page, '#connections'),
  ]
  return { tickets, snapshots, connections }
}
