import Koa3 from 'koa'
import * as main from 'koa-sse-pool'
import koasse, { sse } from 'koa-sse-pool/compat'
import Koa2 from 'koa2'
import session from './session.cjs'

for (const Koa of [Koa3, Koa2]) {
  await session.newApi(main, Koa)
  await session.compat(koasse, Koa)
  await session.compat(sse, Koa)
}
