import type {
  sse as Factory,
  CompatOptions as Options,
  CompatStream as Stream,
} from '../dist/compat.cjs'

declare const sse: typeof Factory & { default: typeof Factory; sse: typeof Factory }
declare namespace sse {
  export type CompatOptions = Options
  export type CompatStream = Stream
}
export = sse
