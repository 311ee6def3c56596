/** What the pages of hooks.test.ts have in common. */

interface Feeds {
  /** The components that are mounted, by their ids. */
  readonly ids: readonly string[]
  /** Each new number renders all of them again. */
  readonly version: number
}

/** A hook of the recipe. */
export type UseEvents<Status> = (
  url: string,
  handlers: Record<string, (data: { text: string }) => void>,
) => Status

declare global {
  interface Window {
    /**
     * Mounts the components that are new, unmounts those that are not given, and renders the others. Done when
     * they are rendered: an event that comes before would meet the old handlers.
     */
    render(feeds: Feeds): void | Promise<void>
  }
}

/** What a component shows. */
export function textOf(status: string, loads: number, shown: string): string {
  return `${status}, loaded ${loads} times, shows ${shown}`
}
