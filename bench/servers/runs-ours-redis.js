// @ts-check
// The same server; the settings have the address of Redis.
import './runs-ours.js'
