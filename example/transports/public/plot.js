/** Plots how late each reading arrived against the time it was sent, on one scale for all transports. */
import { say } from './shared/language.js'

const SPAN_MS = 20_000
const STEPS = [500, 1000, 2500, 5000, 7500, 10_000, 20_000, 60_000]

const WIDTH = 200
const HEIGHT = 100

export function draw(plots, outages, now) {
  const highest = Math.max(...plots.flatMap(({ panel }) => panel.readings.map(one => one.late)))
  const top = STEPS.find(step => step >= highest) ?? highest
  const x = at => round((WIDTH * (at - now + SPAN_MS)) / SPAN_MS)
  const y = late => round(HEIGHT * (1 - late / top))
  const isSeen = ({ to }) => to > now - SPAN_MS

  for (const { node, panel } of plots) {
    panel.prune(now)
    const dots = wanted =>
      panel.readings
        .filter(({ isReplayed }) => isReplayed === wanted)
        .map(({ at, late }) => `M${x(at)} ${y(late)}h0.01`)
        .join('')
    const path = name => node.querySelector(`path.${name}`)
    path('live').setAttribute('d', dots(false))
    path('replayed').setAttribute('d', dots(true))
    path('missed').setAttribute('d', panel.misses.map(at => `M${x(at)} 88V100`).join(''))
    path('asked').setAttribute('d', panel.answers.map(at => `M${x(at)} 0V10`).join(''))
    path('outages').setAttribute('d', outages.filter(isSeen).map(band).join(''))
    say(node.querySelector('.top'), 'late', { seconds: top / 1000 })
  }

  function band({ from, to }) {
    const left = Math.max(0, x(from))
    return `M${left} 0V${HEIGHT}H${Math.min(WIDTH, x(to))}V0Z`
  }
}

function round(number) {
  return Math.round(number * 100) / 100
}
