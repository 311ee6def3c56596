/** The interface that each driver of a browser engine implements. */

export const ENGINES = ['chromium', 'firefox', 'webkit'] as const
export type Engine = (typeof ENGINES)[number]

/** Keys by their names in a KeyboardEvent, with their code points in WebDriver (https://www.w3.org/TR/webdriver2/#keyboard-actions). */
export const KEYS = {
  ArrowDown: '\uE015',
  ArrowUp: '\uE013',
  End: '\uE010',
  Enter: '\uE007',
  Escape: '\uE00C',
  Home: '\uE011',
  PageDown: '\uE00F',
  PageUp: '\uE00E',
  Tab: '\uE004',
} as const
export type Key = keyof typeof KEYS

export interface LaunchOptions {
  /** The size of the page in CSS pixels. */
  viewport: { width: number; height: number }
  colorScheme: 'light' | 'dark'
  /** What pages get as `navigator.languages`; default `'en-US,en'`. Not in WebKit, whose pages get `C`. */
  languages: string
  /** Whether its pages can be photographed. WebKit takes a quarter longer then. Default: with SHOTS only. */
  shots?: boolean
  /**
   * Gives each tab a process of its own, so that one can be killed without the others. Tabs must then be
   * opened one after the other. Default `false`.
   */
  processPerTab?: boolean
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
  /**
   * Presses a key. Unlike an event that a script dispatches, it also causes what the browser itself does, such as
   * scrolling. The page must be the one that was opened last.
   */
  key(key: Key): Promise<void>
  /** The visible part of the page, as PNG. */
  shot(): Promise<Uint8Array>
  /** Kills the page's process, or stops it until it is continued. Needs `processPerTab`. */
  signal?(signal: 'SIGKILL' | 'SIGSTOP' | 'SIGCONT'): void
  /** Freezes the page as a phone does in the background, and tells it so. Only in Chromium. */
  setFrozen?(isFrozen: boolean): Promise<void>
  close(): Promise<void>
}
