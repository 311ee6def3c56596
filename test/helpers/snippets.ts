/**
 * The code in the documentation, as TypeScript sees it.
 *
 * Each `js`, `ts` and `html` fence is a module of its own and keeps the line numbers of its page.
 * Code for a browser is checked with the DOM and without Node, all other code the other way round.
 * What a reader of the page has at that point (router, pool, database) is declared in snippet-prelude.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import ts from 'typescript'
import { APP, BROWSER, MODULES, SERVER } from './snippet-prelude.js'

export interface Snippet {
  /** The page's path from the root of the repository. */
  readonly page: string
  /** The line of its fence. */
  readonly line: number
  readonly language: string
  readonly code: string
}

const ROOT = fileURLToPath(new URL('../../', import.meta.url))

const CHECKED = ['js', 'ts', 'html']

/** The languages that are not checked. Any other name fails, so no JavaScript escapes the check. */
export const UNCHECKED = [
  'sql',
  'sh',
  'text',
  'yaml',
  'dockerfile',
  'nginx',
  'haproxy',
  'caddyfile',
  'apache',
  '',
]

/** The paths of all pages from the root of the repository. */
export const pages = [
  'README.md',
  'README.zh-CN.md',
  'SECURITY.md',
  ...readdirSync(join(ROOT, 'docs'))
    .filter(name => name.endsWith('.md'))
    .map(name => `docs/${name}`),
]

export const readPage = (page: string) => readFileSync(join(ROOT, page), 'utf8')

/** All fences of a page. */
export function fencesOf(page: string, text: string): Snippet[] {
  const fences: Snippet[] = []
  let open: { line: number; language: string; code: string[] } | undefined
  for (const [index, line] of text.split('\n').entries()) {
    if (/^\s+```/.test(line)) throw new Error(`${page}:${index + 1}: a fence must not be indented`)
    if (!line.startsWith('```')) open?.code.push(line)
    else if (open === undefined) open = { line: index + 1, language: line.slice(3), code: [] }
    else {
      fences.push({ page, ...open, code: open.code.join('\n') })
      open = undefined
    }
  }
  if (open !== undefined) throw new Error(`${page}:${open.line}: this fence is never closed`)
  return fences
}

/** The fences that are code to check. */
export function snippetsOf(page: string, text: string): Snippet[] {
  const fences = fencesOf(page, text).filter(({ language }) => CHECKED.includes(language))
  return fences.map(fence => ({ ...fence, code: fence.code.replace(BODY, ANY_BODY) }))
}

/** Its type is `unknown` in @koa/bodyparser, which does not matter in plain JavaScript. */
const BODY = /(?<!\w)ctx\.request\.body/g
const ANY_BODY = '/** @type {any} */ (ctx.request.body)'

/** The errors in these snippets, as `page:line: message`. */
export function errorsIn(snippets: readonly Snippet[]): string[] {
  const forBrowsers = snippets.filter(isForBrowsers)
  const others = snippets.filter(snippet => !isForBrowsers(snippet))
  // Both checks read mostly the same files.
  const cache = new Map<string, ts.SourceFile | undefined>()
  return [
    ...check(others, SERVER, { lib: ['lib.es2023.d.ts'], types: ['node'] }, cache, snippets),
    ...check(forBrowsers, BROWSER, { types: [] }, cache, snippets),
  ]
}

/**
 * The errors that the first snippet of a page gives in a strict TypeScript project. There is no prelude: a reader
 * pastes it into an empty file.
 */
export function strictErrorsInFirst(page: string, text: string): string[] {
  const [first] = fencesOf(page, text).filter(({ language }) => CHECKED.includes(language))
  if (first === undefined) throw new Error(`${page} has no code`)
  const strict = { strict: true, lib: ['lib.es2023.d.ts'], types: ['node'] }
  return check([{ ...first, language: 'ts' }], 'export {}', strict, new Map())
}

/** The code without its comments, to compare translations. */
export function withoutComments({ code, language }: Snippet): string {
  const script = language === 'html' ? scriptOf(code) : code
  const file = ts.createSourceFile('snippet.js', script, ts.ScriptTarget.ES2022)
  return ts.createPrinter({ removeComments: true }).printFile(file)
}

function isForBrowsers({ code, language }: Snippet): boolean {
  if (/from '(node:.*|koa(?!-sse-pool\/client).*|eventsource)'/.test(code)) return false
  return language === 'html' || /\b((Pool)?EventSource|document|navigator)\b/.test(code)
}

/** The same number of lines, empty where the page has no script. */
function scriptOf(html: string): string {
  let isScript = false
  const lines = html.split('\n').map(line => {
    const isTag = /^\s*<\/?script/.test(line)
    if (isTag) isScript = !line.includes('</script')
    return isScript && !isTag ? line : ''
  })
  return lines.join('\n')
}

function check(
  snippets: readonly Snippet[],
  prelude: string,
  options: ts.CompilerOptions,
  cache: Map<string, ts.SourceFile | undefined>,
  importable: readonly Snippet[] = snippets,
): string[] {
  const files = new Map(snippets.map(snippet => [fileOf(snippet), sourceOf(snippet)]))
  // A file of declarations, because only such a one can declare modules.
  const preludes = { 'docs/prelude.ts': prelude, 'docs/prelude-modules.d.ts': MODULES }
  const roots = [...Object.keys(preludes).map(path => join(ROOT, path)), ...files.keys()]
  for (const [path, text] of Object.entries(preludes)) files.set(join(ROOT, path), text)
  files.set(join(ROOT, 'docs/app.ts'), APP)
  for (const snippet of importable) {
    // Other snippets of the page may import one that begins with its file's name.
    const [, name] = /^\/\/ ([\w.-]+\.[jt]s)\n/.exec(snippet.code) ?? []
    if (name !== undefined) files.set(join(ROOT, dirname(snippet.page), name), sourceOf(snippet))
  }
  const settled = { ...baseOptions(), ...options }
  const program = ts.createProgram(roots, settled, hostOf(files, settled, cache))
  return roots.flatMap(root => {
    const file = program.getSourceFile(root) as ts.SourceFile
    const found = [
      ...program.getSyntacticDiagnostics(file),
      ...program.getSemanticDiagnostics(file),
    ]
    return found.map(({ start = 0, messageText }) => {
      const { line } = file.getLineAndCharacterOfPosition(start)
      const page = relative(ROOT, root).replace(/\.\d+\.\w+$/, '')
      return `${page}:${line + 1}: ${ts.flattenDiagnosticMessageText(messageText, '\n')}`
    })
  })
}

/** The options of the tests, so that the package is the one in src, with JavaScript checked too. */
function baseOptions(): ts.CompilerOptions {
  const path = join(ROOT, 'test/tsconfig.json')
  const { config } = ts.readConfigFile(path, ts.sys.readFile)
  const own = { ...config, include: [], files: [] }
  const { options } = ts.parseJsonConfigFileContent(own, ts.sys, dirname(path), undefined, path)
  return {
    ...options,
    checkJs: true,
    moduleDetection: ts.ModuleDetectionKind.Force,
    // Not strict: a null check in each line would hide the point of a snippet.
    strict: false,
    exactOptionalPropertyTypes: false,
    noUncheckedIndexedAccess: false,
  }
}

/** A path next to the page, so that imports resolve from there. */
function fileOf({ page, line, language }: Snippet): string {
  return join(ROOT, `${page}.${line}.${language === 'ts' ? 'ts' : 'js'}`)
}

function sourceOf({ line, language, code }: Snippet): string {
  const script = language === 'html' ? scriptOf(code) : code
  // Everything in src is ESM. `require` is tested with the built package.
  return '\n'.repeat(line) + script.replace(/const (\w+) = require\((.*?)\)/g, 'import $1 from $2')
}

function hostOf(
  files: ReadonlyMap<string, string>,
  options: ts.CompilerOptions,
  cache: Map<string, ts.SourceFile | undefined>,
): ts.CompilerHost {
  const host = ts.createCompilerHost(options)
  const { fileExists, readFile, getSourceFile } = host
  host.fileExists = path => files.has(path) || fileExists(path)
  host.readFile = path => files.get(path) ?? readFile(path)
  host.getSourceFile = (path, how, ...rest) => {
    const text = files.get(path)
    if (text !== undefined) return ts.createSourceFile(path, text, how)
    if (!cache.has(path)) cache.set(path, getSourceFile(path, how, ...rest))
    return cache.get(path)
  }
  return host
}
