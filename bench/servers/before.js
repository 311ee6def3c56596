// @ts-check
// Another build of this package, such as the one before a change: `--before=<its folder>`.
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { settings } from '../parts/host.js'

settings.build = pathToFileURL(join(process.env.BENCH_BEFORE ?? '', 'dist/index.js')).href
await import('./ours.js')
