/** Checks and shows what one transport has delivered. */
import { locale, say } from './shared/language.js'

const KEPT_MS = 20_000

export class Panel {
  /** For the plot, in the server's time: { at, late, isReplayed }. */
  readings = []
  /** Estimated times at which the missed readings were sent. */
  misses = []
  /** Times of the answers, or connections. */
  answers = []
  state = 'connecting'
  #node
  #clock
  #changed
  #newest // the last reading in order
  #missing = new Set() // skipped numbers, which may still arrive
  #received = 0
  #doubled = 0
  #openedAt = 0

  constructor(node, clock, changed) {
    this.#node = node
    this.#clock = clock
    this.#changed = changed
  }

  open() {
    this.answers.push(this.#clock.now())
    if (this.state === 'lost') this.#openedAt = this.#clock.now()
    this.#setState('open')
  }

  lost() {
    this.#setState('lost')
  }

  take(reading) {
    const { n, at } = reading
    if (this.#newest && n <= this.#newest.n && !this.#missing.delete(n)) {
      this.#doubled += 1
      return
    }
    if (this.#newest) this.#noteMissing(reading)
    if (!(this.#newest?.n > n)) this.#newest = reading
    this.#received += 1
    const late = Math.max(0, this.#clock.now() - at)
    this.readings.push({ at, late, isReplayed: at < this.#openedAt - 100 })
  }

  /** Drops what is too old for the plot. */
  prune(now) {
    const from = now - KEPT_MS
    while (this.readings[0]?.at < from) this.readings.shift()
    while (this.misses[0] < from) this.misses.shift()
    while (this.answers[0] < from) this.answers.shift()
  }

  /** Not called for each reading: in a burst, the painting itself would delay them. */
  show() {
    if (!this.#newest) return
    this.#fact('received', this.#received.toLocaleString(locale()))
    this.#fact('missed', this.#missing.size.toLocaleString(locale()))
    this.#fact('doubled', this.#doubled.toLocaleString(locale()))
    this.#node.dataset.newest = this.#newest.n
    const sorted = this.readings.map(({ late }) => late).sort((a, b) => a - b)
    const median = Math.round(sorted[sorted.length >> 1] ?? 0)
    this.#fact('latency', median < 1 ? '< 1 ms' : `${median.toLocaleString(locale())} ms`)
  }

  cost({ requests, bytes }) {
    this.#fact('requests', requests.toLocaleString(locale()))
    this.#fact('bytes', kilobytes(bytes))
    const each = this.#received > 0 ? Math.round(bytes / this.#received) : 0
    this.#fact('each', `${each.toLocaleString(locale())} B`)
  }

  #noteMissing({ n, at }) {
    const { n: last, at: lastAt } = this.#newest
    for (let skipped = last + 1; skipped < n; skipped++) {
      this.#missing.add(skipped)
      this.misses.push(lastAt + ((at - lastAt) * (skipped - last)) / (n - last))
    }
  }

  #setState(state) {
    if (state === this.state) return
    this.state = state
    this.#node.dataset.state = state
    say(this.#node.querySelector('.link'), state === 'open' ? 'connected' : 'lost')
    this.#changed()
  }

  #fact(name, text) {
    const node = this.#node.querySelector(`[data-fact="${name}"]`)
    node.textContent = text
    node.toggleAttribute('data-bad', name === 'missed' && text !== '0')
    node.toggleAttribute('data-waste', name === 'doubled' && text !== '0')
  }
}

function kilobytes(bytes) {
  return `${(bytes / 1000).toLocaleString(locale(), { minimumFractionDigits: 1, maximumFractionDigits: 1 })} kB`
}
