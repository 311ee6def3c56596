// @ts-check
// `npm run mutation` changes one thing at a time in the code, and one of the tests that run this code must
// fail. docs/reliability.md says which changes no test notices, and why.

export default {
  testRunner: 'vitest',
  vitest: { configFile: 'vitest.mutation.config.ts', related: false },
  mutate: ['src/{wire,delivery,koa}/*.ts'],
  coverageAnalysis: 'perTest',
  concurrency: 2,
  // The tests run without types, so Stryker need not disable them in each file.
  disableTypeChecks: false,
  // Above the limit of a single test, so that a test that hangs fails in its worker.
  timeoutMS: 20_000,
  incremental: true,
  incrementalFile: 'reports/mutation/incremental.json',
  reporters: ['clear-text', 'json', 'html'],
  jsonReporter: { fileName: 'reports/mutation/mutation.json' },
  htmlReporter: { fileName: 'reports/mutation/mutation.html' },
  clearTextReporter: { allowColor: false, logTests: false, reportTests: false },
  thresholds: { high: 95, low: 85, break: 85 },
  allowEmpty: false,
}
