/** The documentation: its code compiles, its links lead somewhere, and translations have the same code. */
import { execFileSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { beforeAll, describe, expect, test } from 'vitest'
import { slugify } from '../site/slugify.js'
import { resolvePoolOptions } from '../src/pool/options.js'
import {
  errorsIn,
  fencesOf,
  pages,
  readPage,
  snippetsOf,
  strictErrorsInFirst,
  UNCHECKED,
  withoutComments,
} from './helpers/snippets.js'

/** Code that must not compile, each with the expected message. */
const mistakes: [what: string, code: string, message: RegExp][] = [
  [
    'an unknown option of sse()',
    "router.get('/', sse({ pool, idd: ctx => ctx.query.id }))",
    /'idd'/,
  ],
  ['an unknown option of the pool', 'new ClientPool({ maxClient: 2 })', /'maxClient'/],
  [
    'an unknown option of an engine',
    "redisLog({ client: null, key: 'events', keep: 10 })",
    /'keep'/,
  ],
  ['an unknown method of the pool', "pool.sendTo('ada', 'hello')", /'sendTo'/],
  ['an unknown event of the pool', "pool.on('opened', () => {})", /"opened"/],
  [
    'an unknown method of ctx.sse',
    "router.get('/', sse(), ctx => { ctx.sse.push('x') })",
    /'push'/,
  ],
  ['an unknown module', "import { sse } from 'koa-sse-pool/koa'", /koa-sse-pool\/koa/],
  ['an unknown export', "import { ssse } from 'koa-sse-pool'", /ssse/],
  ['an undeclared name', "pool.send(who, 'hello')", /'who'/],
  ['an unknown property of the DOM', "new EventSource('/').onopened = () => {}", /'onopened'/],
  ['a global of Node in a page', 'document.title = process.version', /'process'/],
]

const ROOT = new URL('../', import.meta.url)
const texts = new Map(pages.map(page => [page, readPage(page)]))
const textOf = (page: string) => texts.get(page) as string

let errors: string[]

beforeAll(() => {
  const wrong = mistakes.flatMap(([what, code]) => snippetsOf(what, `\`\`\`js\n${code}\n\`\`\``))
  errors = errorsIn([...pages.flatMap(page => snippetsOf(page, textOf(page))), ...wrong])
})

test.each(pages)('the code in %s compiles', page => {
  expect(errors.filter(error => error.startsWith(`${page}:`))).toEqual([])
})

test('the declarations that the code relies on compile too', () => {
  expect(errors.filter(error => error.startsWith('docs/prelude'))).toEqual([])
})

const readmes = pages.filter(page => page.startsWith('README'))

test.each(readmes)(
  'the first example in %s compiles in a strict TypeScript project (fault 106)',
  page => {
    expect(strictErrorsInFirst(page, textOf(page))).toEqual([])
  },
)

test('code that compiles only without strict is found', () => {
  const body = "import Koa from 'koa'\nimport '@koa/bodyparser'\n"
  const page = `\`\`\`js\n${body}new Koa().use(ctx => void ctx.request.body.id)\n\`\`\``
  expect(strictErrorsInFirst('README.md', page)).toEqual([
    "README.md:4: 'ctx.request.body' is of type 'unknown'.",
  ])
})

describe('a mistake is found if it is', () => {
  test.each(mistakes)('%s', (what, _, message) => {
    const found = errors.filter(error => error.startsWith(`${what}:2: `))
    expect(found).toHaveLength(1)
    expect(found[0]).toMatch(message)
  })
})

test('every fence has a language that is checked or known not to be JavaScript', () => {
  const known = ['js', 'ts', 'html', ...UNCHECKED]
  const fences = pages.flatMap(page => fencesOf(page, textOf(page)))
  expect(fences.filter(({ language }) => !known.includes(language))).toEqual([])
})

const translated = pages.filter(page => page.endsWith('.zh-CN.md'))

test.each(translated)('the code in %s is the same as on the English page', page => {
  const codeOf = (name: string) => snippetsOf(name, textOf(name)).map(withoutComments)
  expect(codeOf(page)).toEqual(codeOf(page.replace('.zh-CN', '')))
})

test.each(translated)(
  'no line of %s ends in a sentence, where a browser would show a space',
  page => {
    const text = textOf(page).replace(/^```[\s\S]*?^```$/gm, '')
    const END = /[\p{Script=Han}，。；：、）`*]\n *(?!\[English\])[\p{Script=Han}（“`*[].*/gu
    expect(text.match(END) ?? []).toEqual([])
  },
)

test.each(pages)('every link in %s leads somewhere', page => {
  const links = [...textOf(page).matchAll(/\]\(([^)\s]+)\)/g)].map(([, to]) => to as string)
  const local = links.filter(to => !to.includes('://'))
  const base = new URL(page, ROOT)
  const missing = local.filter(to => {
    const { pathname, hash } = new URL(to, base)
    if (!existsSync(pathname)) return true
    return hash !== '' && !anchorsOf(pathname).includes(decodeURIComponent(hash))
  })
  expect(missing).toEqual([])
})

describe('the package on a registry', () => {
  const packed = packedFiles()

  test.each(readmes)('each relative link in %s leads to a file of the package', page => {
    const links = [...textOf(page).matchAll(/\]\(([^)\s]+)\)/g)].map(([, to]) => to as string)
    const relative = links.filter(to => !to.includes('://') && !to.startsWith('#'))
    expect(relative).not.toEqual([])
    expect(relative.filter(to => !packed.includes(to.replace(/#.*/, '')))).toEqual([])
  })
})

/** What `npm publish` would upload, apart from what the build writes. */
function packedFiles(): string[] {
  const pack = ['pack', '--dry-run', '--json', '--ignore-scripts']
  const output = execFileSync('npm', pack, { cwd: ROOT, encoding: 'utf8', stdio: 'pipe' })
  const [{ files }] = JSON.parse(output) as [{ files: { path: string }[] }]
  return files.map(({ path }) => path)
}

test('each promise of docs/reliability.md is proved by a test of the quoted name', () => {
  const page = 'docs/reliability.md'
  const quotes = [...textOf(page).matchAll(/\[([^\]]+)\]\((\.\.\/(?:src|test)\/[^)]+\.ts)\)/g)]
  expect(quotes.length).toBeGreaterThan(15)
  const wrong = quotes.filter(([, name, path]) => {
    const source = readFileSync(new URL(path as string, new URL(page, ROOT)), 'utf8')
    return !source.includes(name as string)
  })
  expect(wrong.map(([quote]) => quote)).toEqual([])
})

describe('the promises that docs/reliability.md quotes', () => {
  const plain = (text: string) => text.replaceAll('*', '').replace(/\s+/g, ' ')
  const [, section = ''] = textOf('docs/reliability.md').split('## Every promise and its tests')
  const rows = (section.split('\n## ')[0] as string).matchAll(/^\| (.+) \| \[.+ \|$/gm)
  const quotes = [...rows].map(([, quote]) => quote as string)
  const [, ...sections] = textOf('docs/guarantees.md').split('\n## ')
  const promises = sections.filter(text => !text.startsWith('What is not guaranteed'))

  test('are in docs/guarantees.md, word for word', () => {
    expect(quotes.length).toBeGreaterThan(50)
    const text = plain(promises.join('\n'))
    expect(quotes.filter(quote => !text.includes(quote))).toEqual([])
  })

  test('leave out no paragraph, list item or table row of docs/guarantees.md', () => {
    const isPromise = (part: string) =>
      !/^(?:\|-|\| (?:reason|client) \||The tests are )/.test(part)
    // The first line of a section is its heading.
    const bodies = promises.map(text => text.slice(text.indexOf('\n')))
    const parts = bodies.flatMap(text => text.split(/\n(?=\n|- |\|)/).map(part => part.trim()))
    const left = parts.filter(part => part !== '' && isPromise(part)).map(plain)
    expect(left.filter(part => !quotes.some(quote => part.includes(quote)))).toEqual([])
  })
})

test('the limits in SECURITY.md are the defaults of the pool', () => {
  const { maxClients, maxStreamsPerClient, maxEventBytes, maxBufferedBytes, stallTimeout, window } =
    resolvePoolOptions({})
  const rows = [
    ['maxClients', `${spaced(maxClients)} streams`],
    ['maxStreamsPerClient', maxStreamsPerClient === Number.POSITIVE_INFINITY && '**no limit**'],
    ['maxEventBytes', `${maxEventBytes / 2 ** 20} MiB`],
    ['maxBufferedBytes', `${maxBufferedBytes / 2 ** 20} MiB`],
    ['stallTimeout', `${stallTimeout / 1000} s`],
    ['window', `${spaced(window.events)} events, ${window.bytes / 2 ** 20} MiB`],
  ]
  const text = textOf('SECURITY.md')
  expect(rows.filter(([name, value]) => !text.includes(`| \`${name}\` | ${value}`))).toEqual([])
})

/** 10 000, as the documentation writes it. */
function spaced(count: number): string {
  return count.toLocaleString('en').replaceAll(',', ' ')
}

test('docs/choosing-a-log.md has a row for each log that the package exports', () => {
  const rooms = readdirSync(new URL('src', ROOT)).filter(room =>
    existsSync(new URL(`src/${room}/index.ts`, ROOT)),
  )
  const logs = rooms.flatMap(room => {
    const source = readFileSync(new URL(`src/${room}/index.ts`, ROOT), 'utf8')
    return [...source.matchAll(/^export function (\w+Log)\(/gm)].map(([, name]) => name)
  })
  expect(logs.length).toBeGreaterThanOrEqual(4)
  const rows = textOf('docs/choosing-a-log.md')
    .split('\n')
    .filter(line => line.startsWith('| '))
  expect(logs.filter(name => !rows.some(row => row.includes(`\`${name}\``)))).toEqual([])
})

/** The anchors that GitHub makes from the headings. */
function anchorsOf(path: string): string[] {
  const headings = readFileSync(path, 'utf8').match(/^#+ .+$/gm) ?? []
  return headings.map(heading => `#${slugify(heading.replace(/^#+ /, ''))}`)
}

test('the index names every page and every example', () => {
  const examples = readdirSync(new URL('example', ROOT), { withFileTypes: true })
    .filter(entry => entry.isDirectory() && entry.name !== 'shared')
    .map(({ name }) => `../example/${name}`)
  const docs = pages.filter(page => page.startsWith('docs/')).map(page => page.slice(5))
  const index = textOf('docs/README.md')
  const missing = [...docs, ...examples].filter(
    to => to !== 'README.md' && !index.includes(`](${to})`),
  )
  expect(missing).toEqual([])
})

test.each([
  ['lighttpd', 'server.stream-response-body = 1'],
  ['h2o', '`pingInterval`'],
  ['http-proxy 1.18', '`maxAge`'],
  ['Varnish', '32 s'],
  ['Apache', '`DEFLATE`'],
])('docs/proxies.md says of %s what is to be set or expected (fault 121)', (proxy, what) => {
  // A table has a row for each, and the sentences about Apache stand in one paragraph.
  const parts = readPage('docs/proxies.md').split(/\n\n|\n(?=\|)/)
  expect(parts.filter(part => part.includes(proxy)).join(' ')).toContain(what)
})
