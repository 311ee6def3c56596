/** The plain script, for pages without a bundler: `<script src=…>` makes `PoolEventSource` a global. */
import { PoolEventSource } from './index.js'

Object.assign(globalThis, { PoolEventSource })
