const main = require('koa-sse-pool')
const koasse = require('koa-sse-pool/compat')
const session = require('./session.cjs')

;(async () => {
  for (const Koa of [require('koa'), require('koa2')]) {
    await session.newApi(main, Koa)
    for (const factory of [koasse, koasse.default, koasse.sse]) await session.compat(factory, Koa)
  }
})()
