// @ts-check
/**
 * A table with as many elements as fit on the screen, whatever the number of rows, and with one row in the tab
 * order: arrows, Home, End and the page keys move it (WAI-ARIA Authoring Practices, grid).
 */

/** How many rows are kept above and below the visible ones. */
const MARGIN = 8

/**
 * @typedef {object} Column
 * @property {string} name the class of its cells.
 * @property {() => string} title
 * @property {(row: any) => string} text
 * @property {(row: any) => string} [state] sets `data-state`.
 */

export class Table {
  /** @type {HTMLElement} */
  #grid
  /** @type {HTMLElement} */
  #body
  /** @type {HTMLElement} */
  #space
  /** @type {HTMLElement} */
  #head
  /** @type {Column[]} */
  #columns
  /** @type {Map<number, HTMLElement>} */
  #elements = new Map()
  #active = 0
  #isQueued = false
  /** @type {any[]} */
  rows = []
  /** Is called when the end of the loaded rows is near. */
  onNearEnd = () => {}
  /** @type {(row: any) => void} */
  onOpen = () => {}

  /**
   * @param {HTMLElement} grid
   * @param {Column[]} columns
   */
  constructor(grid, columns) {
    this.#grid = grid
    // No <table>: its rows cannot be taken out of the flow.
    grid.setAttribute('role', 'grid')
    const title = grid.closest('section')?.getAttribute('aria-labelledby')
    if (title) grid.setAttribute('aria-labelledby', title)
    this.#columns = columns
    this.#head = element('div', 'row head')
    this.#head.setAttribute('role', 'row')
    this.#head.setAttribute('aria-rowindex', '1')
    this.#head.append(
      ...columns.map(({ name }) => {
        const cell = element('span', name)
        cell.setAttribute('role', 'columnheader')
        return cell
      }),
    )
    this.#space = element('div', 'space')
    this.#space.setAttribute('role', 'rowgroup')
    this.#body = element('div', 'body')
    this.#body.setAttribute('role', 'presentation')
    this.#body.tabIndex = -1
    this.#body.append(this.#space)
    grid.append(this.#head, this.#body)
    this.#body.addEventListener('scroll', () => this.#queue())
    new ResizeObserver(() => this.#queue()).observe(this.#body)
    this.#space.addEventListener('keydown', event => this.#press(event))
    this.#space.addEventListener('click', event => this.#click(event))
    this.titles()
  }

  /** The language has changed. */
  titles() {
    for (const [index, cell] of [...this.#head.children].entries()) {
      cell.textContent = this.#columns[index]?.title() ?? ''
    }
    this.render()
  }

  /** The first and the last row that can be seen. */
  get visible() {
    const height = this.#rowHeight
    const first = Math.floor(this.#body.scrollTop / height)
    const count = Math.ceil(this.#body.clientHeight / height)
    return {
      first: Math.min(first, this.rows.length),
      last: Math.min(first + count, this.rows.length - 1),
    }
  }

  /**
   * @param {any[]} rows
   * @param {number} total
   */
  show(rows, total) {
    this.rows = rows
    this.#grid.setAttribute('aria-rowcount', String(total + 1))
    this.#active = Math.max(0, Math.min(this.#active, rows.length - 1))
    this.render()
  }

  toTop() {
    this.#body.scrollTop = 0
    this.#active = 0
  }

  render() {
    const hadFocus = this.#space.contains(document.activeElement)
    const height = this.#rowHeight
    this.#space.style.height = `${this.rows.length * height}px`
    const { first, last } = this.visible
    const wanted = new Set([this.#active])
    for (let index = Math.max(0, first - MARGIN); index <= last + MARGIN; index++) wanted.add(index)
    for (const [index, row] of this.#elements) {
      if (wanted.has(index) && index < this.rows.length) continue
      row.remove()
      this.#elements.delete(index)
    }
    for (const index of wanted) if (index < this.rows.length) this.#renderRow(index, height)
    // The row that had it may be gone, and the focus with it: the next key would go to the page.
    if (hadFocus && !this.#space.contains(document.activeElement)) {
      this.#elements.get(this.#active)?.focus({ preventScroll: true })
    }
    if (last + 50 > this.rows.length) this.onNearEnd()
  }

  focus() {
    this.#elements.get(this.#active)?.focus()
  }

  get #rowHeight() {
    return Number.parseFloat(getComputedStyle(this.#grid).getPropertyValue('--row')) || 36
  }

  /**
   * @param {number} index
   * @param {number} height
   */
  #renderRow(index, height) {
    let row = this.#elements.get(index)
    if (row === undefined) {
      row = element('div', 'row')
      row.setAttribute('role', 'row')
      row.dataset.index = String(index)
      row.setAttribute('aria-rowindex', String(index + 2))
      row.append(
        ...this.#columns.map(({ name }) => {
          const cell = element('span', name)
          cell.setAttribute('role', 'gridcell')
          return cell
        }),
      )
      this.#elements.set(index, row)
      this.#space.append(row)
    }
    row.style.top = `${index * height}px`
    row.tabIndex = index === this.#active ? 0 : -1
    for (const [at, column] of this.#columns.entries()) {
      const cell = /** @type {HTMLElement} */ (row.children[at])
      const text = column.text(this.rows[index])
      // Only what has changed, so that screen readers and selections are left alone.
      if (cell.textContent !== text) cell.textContent = text
      if (column.state) cell.dataset.state = column.state(this.rows[index])
    }
  }

  #queue() {
    if (this.#isQueued) return
    this.#isQueued = true
    requestAnimationFrame(() => {
      this.#isQueued = false
      this.render()
    })
  }

  /** @param {MouseEvent} event */
  #click(event) {
    const row = /** @type {HTMLElement} */ (event.target).closest('.row')
    if (!(row instanceof HTMLElement)) return
    this.#move(Number(row.dataset.index))
    this.onOpen(this.rows[this.#active])
  }

  /** @param {KeyboardEvent} event */
  #press(event) {
    const page = Math.max(1, Math.floor(this.#body.clientHeight / this.#rowHeight) - 1)
    /** @type {Record<string, number>} */
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page }
    if (event.ctrlKey || event.altKey || event.metaKey) return
    if (event.key === 'Enter' || event.key === ' ') this.onOpen(this.rows[this.#active])
    else if (event.key === 'Home') this.#move(0)
    else if (event.key === 'End') this.#move(this.rows.length - 1)
    else if (event.key in steps) this.#move(this.#active + (steps[event.key] ?? 0))
    else return
    event.preventDefault()
  }

  /** @param {number} index */
  #move(index) {
    this.#active = Math.max(0, Math.min(index, this.rows.length - 1))
    this.render()
    const row = this.#elements.get(this.#active)
    row?.focus({ preventScroll: true })
    // Scrolls the page too, because the list may reach beyond the window.
    row?.scrollIntoView({ block: 'nearest' })
    // The rows around it, which would otherwise be empty until the next frame.
    this.render()
  }
}

/**
 * @param {string} tag
 * @param {string} [className]
 * @param {string} [text] from anyone, so it never becomes markup.
 */
export function element(tag, className = '', text = '') {
  const made = document.createElement(tag)
  if (className) made.className = className
  if (text) made.textContent = text
  return made
}
