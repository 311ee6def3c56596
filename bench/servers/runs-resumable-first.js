// @ts-check
// resumable-stream for a reader that was there from the beginning.
import { settings } from '../parts/host.js'

settings.isFirst = true
await import('./runs-resumable.js')
