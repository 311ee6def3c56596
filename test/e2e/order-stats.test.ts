import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { SEED as FULL_SEED } from '../../example/order-stats/database.js'
import { type Browser, ENGINES, launch, type Page } from './browser.js'
import {
  arrived,
  bars,
  cut,
  example,
  factsOf,
  hasNote,
  order,
  origin,
  refusals,
  SEED,
  signIn,
  startExample,
  tableOf,
  totalIs,
} from './order-stats.js'
import { fireTransition, photograph, press, stateIs, textIs, textOf, wantsShots } from './page.js'

describe.each(ENGINES)('example/order-stats in %s', engine => {
  let browser: Browser

  beforeAll(async () => {
    browser = await launch(engine)
  })
  afterAll(() => browser.close())

  test('asks who the user is, then draws the snapshot', async () => {
    await startExample()
    const page = await openPage()
    await stateIs(page, 'closed')
    await signIn(page, 'ada', 'may knot')
    await textIs(page, '#refusal', 'The name or the password is wrong.')
    expect(example.pool.stats()).toMatchObject({ opened: 0 })

    await signIn(page)
    await totalIs(page, 10)
    expect(await tableOf(page)).toEqual(SEED)
    expect(await bars(page)).toEqual({ snapshot: SEED, live: [0, 0, 0], replayed: [0, 0, 0] })
    expect(await textOf(page, '#revenue')).toBe('€480.00')
    expect(await textOf(page, '#user')).toBe('ada')
  })

  test('shows nothing to a user without permission', async () => {
    await startExample()
    const page = await openPage()
    await signIn(page, 'bob', 'may not')
    await textIs(page, '#refusal', 'bob may not see the figures.')
    expect(await page.eval(() => document.querySelector<HTMLElement>('#view')?.hidden)).toBe(true)
    expect(example.pool.stats()).toMatchObject({ opened: 0 })
  })

  test('updates the charts in all windows, and a new window disturbs none of them', async () => {
    await startExample()
    const first = await openSignedIn()
    const second = await openWindow()
    await press(first, '#order')
    for (const page of [first, second]) await totalIs(page, 11)

    const third = await openWindow()
    await totalIs(third, 11)
    await order()
    for (const page of [first, second, third]) {
      await totalIs(page, 12)
      expect(await textOf(page, '#snapshots')).toBe('1')
    }
    expect(await arrived(first)).toEqual(['snapshot', 'order live', 'order live'])
    expect(await arrived(second)).toEqual(['snapshot', 'order live', 'order live'])
    expect(await arrived(third)).toEqual(['snapshot', 'order live'])
    expect((await bars(first)).live.reduce((a, b) => a + b)).toBe(2)
  })

  test('continues after a cut with the same ticket and gets the orders that it missed', async () => {
    await startExample({ retryMs: 1000 })
    const page = await openSignedIn()
    await order()
    await totalIs(page, 11)
    await press(page, '#cut')
    await stateIs(page, 'connecting')
    await order()
    await order()
    await hasNote(page, 'back')
    expect(await arrived(page)).toEqual([
      'snapshot',
      'order live',
      'lost',
      'order replayed',
      'order replayed',
      'back',
    ])
    expect(await bars(page)).toMatchObject({ live: [0, 0, 1], replayed: [0, 0, 2] })
    expect(await factsOf(page)).toEqual({ tickets: '1', snapshots: '1', connections: '2' })
    expect(refusals).toEqual([])
  })

  test('agrees with the database after 200 orders at once, a cut and a new page', async () => {
    await startExample()
    const page = await openSignedIn()
    const orders = Array.from({ length: 200 }, () => order())
    await totalIs(page, 11, 'at least')
    cut()
    const newcomer = await openWindow()
    await Promise.all(orders)
    for (const one of [page, newcomer]) {
      await totalIs(one, 210)
      expect(await tableOf(one)).toEqual([3, 5, 202])
      const { snapshot, live, replayed } = await bars(one)
      expect(snapshot.map((n, i) => n + Number(live[i]) + Number(replayed[i]))).toEqual([3, 5, 202])
    }
    const { rows } = await example.db.query('SELECT count(*)::int AS n FROM order_stats.orders')
    expect(rows).toEqual([{ n: 210 }])
    expect(example.pool.stats()).toMatchObject({ replays: 1, gaps: 0 })
    expect(await factsOf(page)).toEqual({ tickets: '1', snapshots: '1', connections: '2' })
  })

  test('takes no step back if an order overtakes the snapshot', async () => {
    await startExample()
    const { readMonths } = example.db
    example.db.readMonths = async () => {
      const months = await readMonths()
      // Its event comes after the COMMIT by way of the log, perhaps later than the answer.
      const events = example.pool.events({ channels: ['stats'] })
      const arrived = events.next()
      await order()
      await arrived
      await events.return(undefined)
      return months
    }
    const page = await openSignedIn(11)
    await order()
    await totalIs(page, 12)
    expect(await arrived(page)).toEqual(['order live', 'snapshot', 'order live'])
  })

  test('gets a new snapshot when the log goes back no further', async () => {
    await startExample({ kept: 5, retryMs: 1000 })
    const page = await openSignedIn()
    await press(page, '#cut')
    await stateIs(page, 'connecting')
    await Promise.all(Array.from({ length: 20 }, () => order()))
    await hasNote(page, 'gap')
    await totalIs(page, 30)
    expect(await factsOf(page)).toEqual({ tickets: '1', snapshots: '2', connections: '2' })
    await order()
    await totalIs(page, 31)
    expect(example.pool.stats()).toMatchObject({ gaps: 1 })
  })

  test('gets a new ticket when the old one no longer admits it', async () => {
    await startExample({ resumeMs: false })
    const page = await openSignedIn()
    await press(page, '#cut')
    await stateIs(page, 'connecting')
    await order()
    await totalIs(page, 11)
    expect(await factsOf(page)).toEqual({ tickets: '2', snapshots: '2', connections: '2' })
    // An EventSource does not show why it was refused, so the client asks once more by fetch.
    expect(refusals).toEqual(['spent', 'spent'])
  })

  test('is cut off at a heartbeat when the sign-in is revoked, and asks who the user is', async () => {
    await startExample({ pingMs: 100 })
    const page = await openSignedIn()
    const closed = new Promise(resolve => {
      example.pool.once('close', (_stream, reason) => resolve(reason))
    })
    for (const [id] of example.pool) example.sessions.revoke(id)
    expect(await closed).toBe('expired')
    await textIs(page, '#refusal', 'The sign-in has ended.')
    // Twice where the browser asks first, and the client then asks for the status.
    expect(new Set(refusals)).toEqual(new Set(['revoked']))
    expect(await page.eval(() => document.querySelectorAll('#months tr').length)).toBe(0)

    await signIn(page)
    await totalIs(page, 10)
  })

  test('closes the stream when the page is left and has everything when it returns', async () => {
    await startExample()
    const page = await openSignedIn()
    const left = new Promise(resolve => example.pool.once('close', resolve))
    await fireTransition(page, 'pagehide')
    await left
    await order()
    await fireTransition(page, 'pageshow')
    await totalIs(page, 11)
    expect(await factsOf(page)).toEqual({ tickets: '1', snapshots: '1', connections: '2' })
  })

  if (wantsShots) {
    test('is photographed', { timeout: 120_000 }, async () => {
      await photograph('order-stats', async page => {
        await startExample({ seed: FULL_SEED, retryMs: 1500 })
        await page.goto(origin)
        await signIn(page)
        await hasNote(page, 'snapshot')
        await press(page, '#burst')
        await totalIs(page, 50 + 664)
        await press(page, '#cut')
        await stateIs(page, 'connecting')
        await press(page, '#burst')
        await totalIs(page, 100 + 664)
        await hasNote(page, 'back')
        await press(page, '#order')
        await totalIs(page, 101 + 664)
        await press(page, '#order')
        await totalIs(page, 102 + 664)
      })
    })
  }

  async function openPage(): Promise<Page> {
    const page = await browser.open()
    onTestFinished(() => page.close())
    await page.goto(origin)
    return page
  }

  async function openSignedIn(total = 10): Promise<Page> {
    const page = await openPage()
    await signIn(page)
    await hasNote(page, 'snapshot')
    await totalIs(page, total)
    return page
  }

  /** Opens a page in the same browser, and so with the same sign-in. */
  async function openWindow(): Promise<Page> {
    const page = await openPage()
    await hasNote(page, 'snapshot')
    return page
  }
})
