// What `require('koa-sse-pool/compat')` gives: the factory itself, as koa-sse-stream's was, which also
// carries `.default` and `.sse`.
const exports_ = require('../dist/compat.cjs')

module.exports = Object.assign(exports_.default, exports_)
