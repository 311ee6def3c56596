// @ts-check
import { defineConfig } from 'vitepress'
import { subpaths } from '../../scripts/subpaths.js'
import { chineseName } from '../../scripts/translations.js'
import { groups, pages, ROOT, titleOf } from '../pages.js'
import { REPOSITORY } from '../repository.js'
import { slugify } from '../slugify.js'
import { tokenize } from '../tokenize.js'
import { copyPages, keepCopied, PAGES } from './copy.js'
import { relink } from './relink.js'

const DESCRIPTION =
  'Server-Sent Events for Koa: push to any client by id, to channels and to everyone, and lose nothing when a client reconnects'
const DESCRIPTION_ZH =
  '用于 Koa 的服务器发送事件（SSE）：按 id 向任意客户端、向频道或向所有客户端推送，重连后一条都不丢'

/** The names of the groups of docs/README.md. */
const CHINESE = {
  Learn: '学习',
  'Run in production': '用于生产环境',
  Examples: '示例',
}

copyPages()

export default defineConfig({
  title: 'koa-sse-pool',
  description: DESCRIPTION,
  srcDir: PAGES,
  outDir: '.vitepress/dist',
  // GitHub Pages serves a project's site below the name of the repository.
  base: process.env.SITE_BASE || '/',
  cleanUrls: true,
  // The addresses of apps that the reader starts. Any other dead link fails the build.
  ignoreDeadLinks: 'localhostLinks',
  head: [
    ['meta', { name: 'theme-color', content: '#0b7a5c' }],
    ['meta', { property: 'og:description', content: DESCRIPTION }],
  ],
  markdown: {
    anchor: { slugify },
    config: md => relink(md, PAGES),
    languageAlias: { caddyfile: 'nginx', haproxy: 'nginx' },
  },
  vite: {
    // The repository has tools of its own, whose settings are not those of the site.
    configFile: false,
    css: { postcss: {} },
    // The images are taken from where they are in the repository.
    server: { fs: { allow: [ROOT] } },
    plugins: [{ name: 'keep-copied', configureServer: ({ watcher }) => keepCopied(watcher) }],
    build: { chunkSizeWarningLimit: 2000 },
  },
  themeConfig: {
    // A page that is not translated would lead nowhere.
    i18nRouting: false,
    outline: [2, 3],
    search: {
      provider: 'local',
      options: {
        miniSearch: { options: { tokenize } },
        locales: {
          zh: {
            translations: {
              button: { buttonText: '搜索', buttonAriaLabel: '搜索' },
              modal: {
                displayDetails: '显示详情',
                resetButtonTitle: '清除',
                backButtonTitle: '关闭',
                noResultsText: '没有结果：',
                footer: { selectText: '选择', navigateText: '切换', closeText: '关闭' },
              },
            },
          },
        },
      },
    },
    socialLinks: [{ icon: 'github', link: REPOSITORY }],
  },
  locales: {
    root: {
      label: 'English',
      lang: 'en',
      themeConfig: { nav: navOf(''), sidebar: sidebarOf('') },
    },
    zh: {
      label: '简体中文',
      lang: 'zh-CN',
      description: DESCRIPTION_ZH,
      themeConfig: {
        nav: navOf('zh'),
        sidebar: sidebarOf('zh'),
        outline: { level: [2, 3], label: '本页内容' },
        docFooter: { prev: '上一页', next: '下一页' },
        darkModeSwitchLabel: '外观',
        lightModeSwitchTitle: '切换到浅色',
        darkModeSwitchTitle: '切换到深色',
        sidebarMenuLabel: '目录',
        returnToTopLabel: '回到顶部',
        langMenuLabel: '语言',
      },
    },
  },
})

/** @param {'' | 'zh'} locale */
function navOf(locale) {
  return [
    [linkTo('docs/getting-started.md', locale), 'Guide', '指南'],
    [linkTo('docs/api/README.md', locale), 'API', 'API'],
    [linkTo('README.md', locale), 'On one page', '一页全览'],
    [linkTo('CHANGELOG.md', locale), 'Changelog', '更新日志'],
  ].map(([link, english, chinese]) => ({ text: locale === '' ? english : chinese, link }))
}

/** The groups of docs/README.md, and the reference by what is imported. @param {'' | 'zh'} locale */
function sidebarOf(locale) {
  const reference = {
    text: locale === '' ? 'API reference' : 'API 参考（英文）',
    collapsed: true,
    items: subpaths.map(({ specifier, file }) => {
      // The client for pages is described in full on a page of its own.
      const source =
        file === 'client' ? 'docs/client.md' : `docs/api/${specifier.replace('/', '.')}.md`
      return { text: specifier, link: linkTo(source, locale) }
    }),
  }
  const contents = groups().map(({ name, sources }) => ({
    text: locale === '' ? name : (CHINESE[name] ?? name),
    items: sources
      .filter(source => source !== 'docs/api/README.md')
      .map(source => itemOf(source, locale)),
  }))
  const [first, ...rest] = contents
  return [first, reference, ...rest]
}

/** @param {string} source @param {'' | 'zh'} locale */
function itemOf(source, locale) {
  const page = pageOf(source, locale)
  const title = source === 'README.md' ? 'README' : titleOf(page.source)
  const isForeign = locale === 'zh' && !page.route.startsWith('zh/')
  return { text: isForeign ? `${title}（英文）` : title, link: linkTo(source, locale) }
}

/** @param {string} source @param {'' | 'zh'} locale */
function linkTo(source, locale) {
  return `/${pageOf(source, locale).route.replace(/(index)?\.md$/, '')}`
}

/** The page in that language, or else in English. @param {string} source @param {'' | 'zh'} locale */
function pageOf(source, locale) {
  const find = (/** @type {string} */ wanted) => pages.find(page => page.source === wanted)
  const page = (locale === 'zh' ? find(chineseName(source)) : undefined) ?? find(source)
  if (page === undefined) throw new Error(`the site has no page for ${source}`)
  return page
}
