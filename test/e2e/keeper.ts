/**
 * A page that keeps one stream while it is shown and none while it is in the browser's back/forward
 * cache. Drivers lose track of a page that is restored from there, so the page does everything itself
 * and reports to the server.
 */

/** Runs in the page. */
function keep(): void {
  let newest: EventSource | undefined
  addEventListener('pageshow', ({ persisted }) => {
    const source = new EventSource(`/events?id=ada&persisted=${persisted}`)
    newest = source
    // WebKit reopens a stream that was closed in pagehide when the page is restored.
    source.onopen = () => {
      if (source !== newest) source.close()
    }
    source.onmessage = ({ data }) => {
      if (data === 'leave') location.assign('/back')
      else void fetch(`/marker?${data}`)
    }
  })
  // Without this, the stream would stay open for as long as Chromium caches the page.
  addEventListener('pagehide', () => newest?.close())
}

export const KEEPER = `<!doctype html><title>Keeper</title><link rel="icon" href="data:,">
<script>(${keep})()</script>`

/** Goes back at once to the previous page. */
export const BACK = `<!doctype html><title>Back</title><link rel="icon" href="data:,">
<script>onload = () => setTimeout(() => history.back())</script>`
