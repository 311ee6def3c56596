// @ts-check
/** A small chart of the last samples: one line for each series, over a scale from 0 to the largest. */

const SVG = 'http://www.w3.org/2000/svg'
const WIDTH = 240
const HEIGHT = 48

/** How many samples it shows. */
const SAMPLES = 120

export class Chart {
  /** @type {number[][]} */
  #series
  /** @type {SVGPolylineElement[]} */
  #lines
  /** @type {HTMLElement} */
  #value
  /** @type {(value: number) => string} */
  #format

  /**
   * @param {HTMLElement} figure
   * @param {number} count the number of series.
   * @param {(value: number) => string} format
   */
  constructor(figure, count, format) {
    this.#format = format
    this.#value = /** @type {HTMLElement} */ (figure.querySelector('b'))
    this.#series = Array.from({ length: count }, () => [])
    const svg = document.createElementNS(SVG, 'svg')
    svg.setAttribute('viewBox', `0 0 ${WIDTH} ${HEIGHT}`)
    svg.setAttribute('preserveAspectRatio', 'none')
    // The figure above it says the newest value.
    svg.setAttribute('aria-hidden', 'true')
    this.#lines = this.#series.map((_, index) => {
      const line = document.createElementNS(SVG, 'polyline')
      line.setAttribute('class', `line-${index}`)
      svg.append(line)
      return line
    })
    figure.append(svg)
  }

  /** @param {number[]} values one for each series. */
  add(values) {
    for (const [index, series] of this.#series.entries()) {
      series.push(values[index] ?? 0)
      if (series.length > SAMPLES) series.shift()
    }
    this.#value.textContent = values.map(this.#format).join(' / ')
    const top = Math.max(1, ...this.#series.flat())
    for (const [index, series] of this.#series.entries()) {
      const left = WIDTH - ((series.length - 1) * WIDTH) / (SAMPLES - 1)
      const points = series.map((value, at) => {
        const x = left + (at * WIDTH) / (SAMPLES - 1)
        return `${x.toFixed(1)},${(HEIGHT - 2 - (value / top) * (HEIGHT - 4)).toFixed(1)}`
      })
      this.#lines[index]?.setAttribute('points', points.join(' '))
    }
  }
}
