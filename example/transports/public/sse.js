/** This is all: the browser reconnects by itself and sends the id of the last reading. */
export function listen(page, panel) {
  const source = new EventSource(`events?page=${page}`)
  source.onopen = () => panel.open()
  source.onerror = () => panel.lost()
  source.onmessage = event => panel.take(JSON.parse(event.data))
  return () => source.close()
}
