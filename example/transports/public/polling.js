/** Polling as it is usually done: a timer, and the newest few readings. */
export function poll(page, panel, { pollMs }) {
  async function ask() {
    try {
      const response = await fetch(`latest?page=${page}`)
      if (!response.ok) throw new Error(response.statusText)
      panel.open()
      for (const reading of await response.json()) panel.take(reading)
    } catch {
      panel.lost()
    }
  }
  ask()
  const timer = setInterval(ask, pollMs)
  return () => clearInterval(timer)
}
