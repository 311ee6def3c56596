/** All of it: the browser reconnects by itself, and says which reading was the last. */
export function listen(page, panel) {
  const source = new EventSource(`events?page=${page}`)
  source.onopen = () => panel.open()
  source.onerror = () => panel.lost()
  source.onmessage = event => panel.take(JSON.parse(event.data))
  return () => source.close()
}
