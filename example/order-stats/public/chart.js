// Draws the bars with Chart.js. It is loaded by a script tag, so it is a global: window.Chart.
import { locale } from './shared/language.js'

const PARTS = ['snapshot', 'live', 'replayed']
const COLOURS = { snapshot: '--known', live: '--live', replayed: '--replayed' }

/** Draws the months of the map; call `show` after each change. */
export function drawMonths(canvas, months) {
  const isCalm = matchMedia('(prefers-reduced-motion: reduce)').matches
  window.Chart.defaults.font.family = getComputedStyle(canvas).fontFamily
  const chart = new window.Chart(canvas, {
    type: 'bar',
    data: { labels: [], datasets: PARTS.map(label => ({ label, data: [] })) },
    options: {
      maintainAspectRatio: false,
      animation: isCalm ? false : { duration: 250 },
      datasets: { bar: { maxBarThickness: 48, borderRadius: 2, borderSkipped: false } },
      scales: {
        x: { stacked: true, grid: { display: false }, ticks: { maxRotation: 0 } },
        y: {
          stacked: true,
          beginAtZero: true,
          border: { display: false },
          ticks: { precision: 0, maxTicksLimit: 6 },
        },
      },
      plugins: { legend: { display: false } },
    },
  })

  paint()
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', paint)

  /** Uses the colours of the page's style sheet. */
  function paint() {
    const style = getComputedStyle(document.documentElement)
    const colour = name => style.getPropertyValue(name).trim()
    for (const set of chart.data.datasets) set.backgroundColor = colour(COLOURS[set.label])
    const { x, y } = chart.options.scales
    x.ticks.color = y.ticks.color = colour('--soft')
    x.border = { color: colour('--line') }
    y.grid.color = colour('--line')
    chart.update('none')
  }

  let isWaiting = false

  /** Takes the figures at once, but draws the bars once per frame, however many events arrive. */
  function show() {
    const rows = [...months.values()].sort((a, b) => (a.month < b.month ? -1 : 1))
    chart.data.labels = rows.map(({ month }) => labelOf(month))
    for (const set of chart.data.datasets) set.data = rows.map(row => row[set.label])
    if (isWaiting) return
    isWaiting = true
    requestAnimationFrame(() => {
      isWaiting = false
      chart.update()
    })
  }
  return { show }
}

/** In January, a second line has the year. */
function labelOf(month) {
  const date = new Date(`${month}-01T00:00:00Z`)
  const name = date.toLocaleDateString(locale(), { month: 'short', timeZone: 'UTC' })
  return month.endsWith('-01') ? [name, month.slice(0, 4)] : name
}
