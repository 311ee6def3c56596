/** The options of `inspector()`, each with its default and its check. */
import type { Context } from 'koa'
import { got } from '../lib/errors.js'
import { aBoolean, isFunction, isRecord, type Rule, resolve } from '../lib/rules.js'
import { hasHub } from '../pool/hub.js'

/** What the page can do: send an event, remove a client, drain a process. */
export type InspectorAction = 'send' | 'remove' | 'drain'

export interface InspectorOptions {
  /**
   * Decides for each request, the page's script and its event stream included. Only `true`, or a promise of it,
   * lets the request in; anything else is answered with 403. `ctx.throw(401)` refuses it in another way. There is
   * no default: the page shows the ids of all clients.
   */
  authorize: (ctx: Context) => unknown
  /**
   * Whether the page shows the data of events, at most 1000 characters of each. Names and sizes are always shown.
   * Each process decides for the streams that it has. Default `false`.
   */
  data?: boolean | undefined
  /** What the page may do. Each process decides for itself whether it can be drained. Default: none. */
  actions?: readonly InspectorAction[] | undefined
}

export type ResolvedInspectorOptions = Required<{
  [Name in keyof InspectorOptions]: NonNullable<InspectorOptions[Name]>
}>

const ACTIONS: readonly unknown[] = ['send', 'remove', 'drain'] satisfies InspectorAction[]

const RULES: Record<keyof InspectorOptions, Rule> = {
  authorize: {
    expected:
      'a function such as ctx => ctx.state.user?.isAdmin === true, because the page shows the ids of all clients',
    accepts: isFunction,
  },
  data: aBoolean(false),
  actions: {
    default: [],
    expected: "an array of 'send', 'remove' and 'drain'",
    accepts: value => Array.isArray(value) && value.every(action => ACTIONS.includes(action)),
  },
}

/** @throws TypeError that names the option, when one is unknown, missing or wrong. */
export function resolveInspector(pool: unknown, given: unknown): ResolvedInspectorOptions {
  if (!hasHub(pool)) {
    throw new TypeError(`inspector(): the first argument must be a ClientPool; got ${got(pool)}`)
  }
  const options = given === undefined ? {} : given
  if (!isRecord(options)) {
    throw new TypeError(
      `inspector(): options must be an object such as { authorize: ctx => ctx.state.user?.isAdmin === true }; got ${got(given)}`,
    )
  }
  return resolve('inspector()', RULES, options) as unknown as ResolvedInspectorOptions
}
