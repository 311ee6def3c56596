/** The same with the package's client: it also comes back after a 502 and notices a silent connection. */
export function listenOn(page, panel) {
  const source = new PoolEventSource(`events?by=client&page=${page}`, { json: true })
  source.onopen = () => panel.open()
  source.onerror = () => panel.lost()
  source.onmessage = event => panel.take(event.data)
  return () => source.close()
}
