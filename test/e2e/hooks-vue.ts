/** The page of Vue components with the hook of the recipe. */
import { createApp, h, nextTick, type Ref, ref, shallowReactive } from 'vue'
import { textOf, type UseEvents } from './hooks-page.js'

export function install(useEvents: UseEvents<Ref<string>>): void {
  const Feed = {
    props: ['version'],
    setup(props: { version: number }) {
      const loads = ref(0)
      const shown = ref('nothing')
      const load = () => void loads.value++
      const show = ({ text }: { text: string }) => {
        shown.value = `${text} ${props.version}`
      }
      // biome-ignore lint/correctness/useHookAtTopLevel: the rule knows only the components of React
      const status = useEvents('/events', { open: load, 'sse.gap': load, update: show })
      return () => h('p', textOf(status.value, loads.value, shown.value))
    },
  }

  const feeds = shallowReactive<Parameters<typeof window.render>[0]>({ ids: [], version: 0 })
  let isMounted = false
  window.render = async given => {
    Object.assign(feeds, given)
    if (isMounted) return nextTick()
    isMounted = true
    createApp(() => feeds.ids.map(id => h(Feed, { key: id, id, version: feeds.version }))).mount(
      document.body,
    )
  }
}
