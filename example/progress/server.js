// @ts-check
import { createApp } from './app.js'

const { app, pool } = createApp()
const server = app.listen(Number(process.env.PORT ?? 3000), () => {
  const { port } = /** @type {import('node:net').AddressInfo} */ (server.address())
  console.log(`http://localhost:${port}`)
})

for (const signal of ['SIGINT', 'SIGTERM']) {
  process.once(signal, async () => {
    await pool.close() // first: an open stream would keep server.close() waiting
    server.close()
  })
}
