// @ts-check
// koa-sse-pool with `lean`: an open stream keeps neither parser, request, response nor context.
import { ClientPool } from '../../dist/index.js'
import { settings, skip } from '../parts/host.js'

settings.pool = { lean: true }
if (knowsLean()) await import('./ours.js')
else skip('this build does not have the option "lean"')

function knowsLean() {
  try {
    new ClientPool(settings.pool)
    return true
  } catch {
    return false
  }
}
