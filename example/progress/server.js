// @ts-check
import { createApp } from './app.js'

const { app, pool } = createApp()
const { PORT = 3000, HOST = '127.0.0.1' } = process.env
const server = app.listen(Number(PORT), HOST, () => {
  const { port } = /** @type {import('node:net').AddressInfo} */ (server.address())
  console.log(`http://localhost:${port}`)
})

for (const signal of ['SIGINT', 'SIGTERM']) {
  process.once(signal, async () => {
    await pool.close() // first: an open stream would keep server.close() waiting
    server.close()
  })
}
