// @ts-check
// The buttons of the page, only for the demo: anyone who can open the page can end processes.
import Router from '@koa/router'
import Koa from 'koa'
import { listen } from '../shared/serve.js'

/** @param {import('./processes.js').Processes} processes */
export function startControl(processes) {
  const router = new Router()
  router.post('/control/:name/:action', async ctx => {
    const { name = '', action = '' } = ctx.params
    if (processes.order(name, action)) ctx.status = 204
  })
  return listen(new Koa().use(router.routes()), 0, '127.0.0.1')
}
