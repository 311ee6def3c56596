/**
 * Tabs that share a stream come and go at random while bursts of numbers are sent, and most often it is the
 * tab with the connection that is killed in the middle of one. Each tab must see each number once and in order.
 */
import { Random } from '../chaos/random.js'
import type { Browser, Page } from '../e2e/browser.js'
import { Numbers } from './numbers.js'
import { serveTabs, type TabSite } from './site.js'

const TABS = 4
const LARGEST_BURST = 300

export interface Figures {
  /** Tabs killed, and how many of them had the connection. */
  kills: number
  leaders: number
  closed: number
  opened: number
  /** Tabs frozen by the browser, which tells them so, and leaders that stood still without notice. */
  frozen: number
  stopped: number
  sent: number
  /** Events that all tabs together have received. */
  received: number
  lost: number
  doubled: number
  outOfOrder: number
  gaps: number
}

interface Tab {
  readonly number: number
  readonly page: Page
  readonly seen: Numbers
  isFrozen: boolean
}

export interface KillOptions {
  readonly seed: number
  /** The text of the client's script. */
  readonly script: string
  /** Asked after each round, in which one tab is killed or closed, and all others are checked. */
  readonly isEnough: (figures: Figures) => boolean
}

export async function killTabs(
  browser: Browser,
  { seed, script, isEnough }: KillOptions,
): Promise<Figures> {
  const site = await serveTabs({ script, pool: { pingInterval: 1000 } })
  const run = new Run(browser, site, new Random(seed))
  do await run.round()
  while (!isEnough(run.figures))
  await run.end()
  return run.figures
}

class Run {
  readonly figures: Figures = {
    kills: 0,
    leaders: 0,
    closed: 0,
    opened: 0,
    frozen: 0,
    stopped: 0,
    sent: 0,
    received: 0,
    lost: 0,
    doubled: 0,
    outOfOrder: 0,
    gaps: 0,
  }
  readonly #browser: Browser
  readonly #site: TabSite
  readonly #random: Random
  #tabs: Tab[] = []

  constructor(browser: Browser, site: TabSite, random: Random) {
    this.#browser = browser
    this.#site = site
    this.#random = random
  }

  async round(): Promise<void> {
    while (this.#tabs.length < TABS) await this.#open()
    if (this.#random.chance(0.2)) await this.#freezeOne()
    if (this.#random.chance(0.04)) await this.#stopLeader()
    if (this.#random.chance(0.5)) this.#keepOneBusy()
    // A new tab comes in the middle of a burst.
    if (this.#random.chance(0.5)) await Promise.all([this.#burst(), this.#open()])
    await this.#burst(() => this.#removeOne())
    await this.#burst()
    for (const tab of this.#tabs) await this.#thaw(tab)
    for (const tab of this.#tabs) await this.#read(tab)
  }

  async end(): Promise<void> {
    for (const tab of [...this.#tabs]) await this.#forget(tab)
  }

  /** Sends numbers, at a pace that lets the browser take part, and does something in the middle. */
  async #burst(inTheMiddle = () => {}): Promise<void> {
    const size = this.#random.whole(1, LARGEST_BURST)
    const middle = this.#random.whole(0, size - 1)
    for (let i = 0; i < size; i++) {
      void this.#site.pool.send('ada', String(++this.figures.sent))
      if (i === middle) inTheMiddle()
      if (this.#random.chance(0.1)) await new Promise(resolve => setTimeout(resolve))
    }
  }

  async #open(): Promise<void> {
    const number = ++this.figures.opened
    const page = await this.#browser.open()
    await page.goto(`${this.#site.origin}/?tab=${number}`)
    await page.eval(async () => {
      window.tab.listen('/events', { share: true })
      await window.tab.until(({ statuses }) => statuses.includes('live'))
    })
    const seen = new Numbers(this.figures.sent + 1)
    this.#tabs.push({ number, page, seen, isFrozen: false })
  }

  /** Kills a tab, or sometimes closes it as a user does. */
  #removeOne(): void {
    const { leader } = this.#site
    const leading = this.#tabs.find(({ number }) => number === leader)
    const tab = this.#random.chance(0.7) && leading ? leading : this.#random.pick(this.#tabs)
    this.#tabs = this.#tabs.filter(other => other !== tab)
    if (this.#random.chance(0.9)) {
      this.figures.kills += 1
      if (tab === leading) this.figures.leaders += 1
      tab.page.signal?.('SIGKILL')
    } else {
      this.figures.closed += 1
    }
    // What a browser says about the end of a tab that was killed differs.
    tab.page.close().catch(() => {})
  }

  /** The tab takes nothing in for a while, so it falls behind the others. */
  #keepOneBusy(): void {
    const milliseconds = this.#random.whole(10, 200)
    // It may be killed meanwhile, and then it does not answer.
    this.#random
      .pick(this.#tabs)
      .page.eval(ms => {
        const end = performance.now() + ms
        while (performance.now() < end);
      }, milliseconds)
      .catch(() => {})
  }

  /** The tab with the connection stands still, until another one has noticed and has taken its place. */
  async #stopLeader(): Promise<void> {
    const leader = this.#tabs.find(({ number }) => number === this.#site.leader)
    if (leader === undefined) return
    this.figures.stopped += 1
    leader.page.signal?.('SIGSTOP')
    await this.#burst()
    // A new tab is told that it is live only by the next leader.
    await this.#open()
    await this.#burst()
    leader.page.signal?.('SIGCONT')
  }

  async #freezeOne(): Promise<void> {
    const tab = this.#random.pick(this.#tabs)
    if (this.#browser.engine !== 'chromium') return
    this.figures.frozen += 1
    tab.isFrozen = true
    await tab.page.setFrozen?.(true)
  }

  async #thaw(tab: Tab): Promise<void> {
    if (!tab.isFrozen) return
    tab.isFrozen = false
    await tab.page.setFrozen?.(false)
  }

  /** Waits until the tab has the last number, and counts what it has seen. */
  async #read({ page, seen }: Tab): Promise<void> {
    const last = String(this.figures.sent)
    const { data, gaps } = await page.eval(async number => {
      const { tab } = window
      await tab.until(() => tab.data.includes(number))
      return { data: tab.data.splice(0), gaps: tab.gaps.splice(0) }
    }, last)
    this.figures.received += data.length
    this.figures.gaps += gaps.length
    const before = { ...seen }
    for (const number of data) seen.take(Number(number))
    seen.end(this.figures.sent)
    this.figures.lost += seen.lost - before.lost
    this.figures.doubled += seen.doubled - before.doubled
    this.figures.outOfOrder += seen.outOfOrder - before.outOfOrder
  }

  async #forget(tab: Tab): Promise<void> {
    this.#tabs = this.#tabs.filter(other => other !== tab)
    await tab.page.close()
  }
}
