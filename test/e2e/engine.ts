/** The interface that each driver of a browser engine implements. */

export const ENGINES = ['chromium', 'firefox', 'webkit'] as const
export type Engine = (typeof ENGINES)[number]

export interface LaunchOptions {
  /** The size of the page in CSS pixels. */
  viewport: { width: number; height: number }
  colorScheme: 'light' | 'dark'
}

export interface Browser {
  readonly engine: Engine
  /** Opens a new tab in which nothing is loaded. */
  open(): Promise<Page>
  close(): Promise<void>
}

export interface Page {
  /** Resolves when the document and what it needs are loaded. */
  goto(url: string): Promise<void>
  /** Runs a function in the page. It sees only its arguments and the globals of the page. */
  eval<Args extends unknown[], Result>(
    run: (...args: Args) => Result | Promise<Result>,
    ...args: Args
  ): Promise<Result>
  /** The visible part of the page, as PNG. */
  shot(): Promise<Uint8Array>
  close(): Promise<void>
}
