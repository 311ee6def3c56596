/** The page of React components with the hook of the recipe. */
import { createElement, Fragment, StrictMode, useState } from 'react'
import { flushSync } from 'react-dom'
import { createRoot } from 'react-dom/client'
import { textOf, type UseEvents } from './hooks-page.js'

export function install(useEvents: UseEvents<string>, isStrict: boolean): void {
  // biome-ignore lint/correctness/noComponentHookFactories: the hook comes from the page, and this runs once
  function Feed({ id, version }: { id: string; version: number }) {
    const [loads, setLoads] = useState(0)
    const [shown, setShown] = useState('nothing')
    const load = () => setLoads((count: number) => count + 1)
    const show = ({ text }: { text: string }) => setShown(`${text} ${version}`)
    const status = useEvents('/events', { open: load, 'sse.gap': load, update: show })
    return createElement('p', { id }, textOf(status, loads, shown))
  }

  let root: ReturnType<typeof createRoot>
  window.render = ({ ids, version }) => {
    const mounted = root ?? createRoot(document.body)
    root = mounted
    const feeds = ids.map(id => createElement(Feed, { key: id, id, version }))
    flushSync(() => mounted.render(createElement(isStrict ? StrictMode : Fragment, null, feeds)))
  }
}
