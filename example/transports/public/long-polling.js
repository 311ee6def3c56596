/** The server answers once there is an event; each answer has the cursor for the next request. */
export function longPoll(page, panel, { retryMs }) {
  const stop = new AbortController()
  let cursor = ''

  async function ask() {
    const headers = { Accept: 'application/json', 'Last-Event-ID': cursor }
    const response = await fetch(`events?page=${page}`, { headers, signal: stop.signal })
    if (!response.ok) throw new Error(response.statusText)
    // If the connection breaks here, this throws: no reading is taken and the cursor stays.
    const answer = await response.json()
    panel.open()
    cursor = answer.cursor
    for (const entry of answer.events) {
      if (entry.event === 'message') panel.take(JSON.parse(entry.data))
    }
  }

  async function askOn() {
    while (!stop.signal.aborted) {
      try {
        await ask()
      } catch {
        panel.lost()
        await new Promise(resolve => setTimeout(resolve, retryMs))
      }
    }
  }
  askOn()
  return () => stop.abort()
}
