/** Begins with the files that take longest: begun last, one alone keeps the others of its group waiting. */
import { BaseSequencer, type TestSpecification } from 'vitest/node'

const LONGEST = [
  'test/chaos/planted.test.ts',
  'test/chaos/chaos.test.ts',
  'test/suites/order.test.ts',
  'test/runs/durable-postgres.conformance.test.ts',
  'test/dist/site.test.ts',
  'test/dist/drain.test.ts',
  'test/model/model.test.ts',
  'test/soak/soak.test.ts',
  'test/client/tabs.test.ts',
]

export default class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const sorted = await super.sort(files)
    const isLong = ({ moduleId }: TestSpecification) =>
      LONGEST.some(file => moduleId.endsWith(`/${file}`))
    return [...sorted.filter(isLong), ...sorted.filter(file => !isLong(file))]
  }
}
