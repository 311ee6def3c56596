/** docs/deploying.md: Kubernetes would accept its manifests, and its times fit together. */
// The modules that `typed` names; here too, so that knip sees that the package is used.
import type {} from 'kubernetes-types/apps/v1.js'
import { expect, test } from 'vitest'
import { parseAllDocuments } from 'yaml'
import { errorsIn, fencesOf, readPage, type Snippet } from '../helpers/snippets.js'

const PAGE = 'docs/deploying.md'
const page = readPage(PAGE)
const code = (language: string) => fencesOf(PAGE, page).find(fence => fence.language === language)
const yaml = code('yaml')?.code as string
const documents = parseAllDocuments(yaml)
const manifests = documents.map(document => document.toJS())

const MODULES: Record<string, string> = {
  Deployment: 'apps/v1',
  PodDisruptionBudget: 'policy/v1',
  Service: 'core/v1',
}

/** The manifest as TypeScript, which knows the fields of each kind and refuses all others. */
function typed(manifest: { kind: string }, line: number): Snippet {
  const { kind } = manifest
  const text = `import type { ${kind} } from 'kubernetes-types/${MODULES[kind]}.js'
    export const manifest: ${kind} = ${JSON.stringify(manifest)}`
  return { page: PAGE, line, language: 'ts', code: text }
}

test('the manifests are YAML, and have the fields of their kinds and no others', () => {
  expect(documents.flatMap(({ errors }) => errors)).toEqual([])
  const wrong = structuredClone(manifests[0])
  wrong.spec.template.spec.terminationGracePeriod = 40
  const errors = errorsIn([...manifests, wrong].map(typed))
  // Only in the one that is wrong on purpose.
  expect(errors).toEqual([expect.stringMatching(/terminationGracePeriod.+ does not exist/)])
})

test('the grace period is longer than preStop and the time after which the app gives up', () => {
  const { terminationGracePeriodSeconds, containers } = manifests[0].spec.template.spec
  const [, sleep] = containers[0].lifecycle.preStop.exec.command
  const number = (pattern: RegExp) => Number(pattern.exec(page)?.[1]?.replace('_', '')) / 1000
  const exit = number(/process\.exit\(1\), ([\d_]+)/)
  expect(terminationGracePeriodSeconds).toBeGreaterThan(Number(sleep) + exit)
  expect(exit).toBeGreaterThan(number(/spread: ([\d_]+)/) + number(/timeout: ([\d_]+)/))
})

test('the Service and the budget select the pods, and the probes their port and routes', () => {
  const [deployment, service, budget] = manifests
  const { metadata, spec } = deployment.spec.template
  expect(deployment.spec.selector.matchLabels).toEqual(metadata.labels)
  expect(service.spec.selector).toEqual(metadata.labels)
  expect(budget.spec.selector.matchLabels).toEqual(metadata.labels)
  const [{ ports, readinessProbe, livenessProbe }] = spec.containers
  expect(service.spec.ports[0].targetPort).toBe(ports[0].name)
  for (const { httpGet } of [readinessProbe, livenessProbe]) {
    expect(httpGet.port).toBe(ports[0].name)
    expect(page).toContain(`router.get('${httpGet.path}'`)
  }
})

test('the Dockerfile starts Node itself, so that SIGTERM reaches it', () => {
  expect(code('dockerfile')?.code).toContain('CMD ["node", "server.js"]')
})
