// @ts-check
// Where the repository is: links from the documentation to its source lead there. This is the only place.
import { readFileSync } from 'node:fs'

const { repository } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8'))
const { GITHUB_SERVER_URL = 'https://github.com', GITHUB_REPOSITORY } = process.env

/**
 * `repository` of package.json; before it is set there, the repository in which GitHub Actions runs; otherwise
 * a placeholder.
 *
 * @type {string}
 */
export const REPOSITORY =
  (repository?.url ?? repository)?.replace(/^git\+|\.git$/g, '') ??
  `${GITHUB_SERVER_URL}/${GITHUB_REPOSITORY ?? 'OWNER/koa-sse-pool'}`
