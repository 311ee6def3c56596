/** Prometheus' own judgement of metrics and of expressions. */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { requireProgram } from '../setup/needs.js'

/** What `promtool check metrics` says; nothing if all is well. */
export function lintMetrics(text: string): string {
  return run(['check', 'metrics'], text)
}

/** What `promtool check rules` says of these expressions; nothing if all of them can be evaluated. */
export function lintExpressions(expressions: readonly string[]): string {
  const rules = expressions.map((expr, index) => ({ record: `rule:${index}`, expr }))
  const folder = mkdtempSync(join(tmpdir(), 'koa-sse-pool-promtool-'))
  const file = join(folder, 'rules.yml')
  try {
    // JSON is YAML too.
    writeFileSync(file, JSON.stringify({ groups: [{ name: 'all', rules }] }))
    return run(['check', 'rules', file])
  } finally {
    rmSync(folder, { recursive: true })
  }
}

function run(args: string[], input = ''): string {
  const { status, stdout, stderr } = spawnSync(requireProgram('promtool'), args, {
    input,
    encoding: 'utf8',
  })
  // It also warns of bad names when it ends with 0.
  return status === 0 && stderr === '' ? '' : `promtool ended with ${status}: ${stdout}${stderr}`
}
