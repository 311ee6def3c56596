// @ts-check
/**
 * The language of a page, and its texts. It is that of `?lang=`, else the one chosen before, else the first of the
 * browser's languages that there is. An element shows the text whose key it has in `data-t`, so that all of them can
 * change with the language.
 */
import { words as shared } from './words.js'

/** @typedef {string | number | Date | (() => string)} Value a function is called whenever the language changes */
/** @typedef {string | ((values: any) => string)} Text with `{name}` for a value, and `code` in backticks */

const LOCALES = { en: 'en-GB', zh: 'zh-CN' }
/** As in the inspector, which then speaks the same. */
const STORED = 'koa-sse-pool.language'

/** @type {Record<string, Record<string, Text>>} */
let words = shared
/** @type {Record<string, Value>} */
let common = {}
/** @type {WeakMap<Element, Record<string, Value>>} */
const given = new WeakMap()
/** @type {Set<() => void>} */
const listeners = new Set()

/** @type {'en' | 'zh'} */
export let language = 'en'

/** For `toLocaleString` and the like. Of the languages there are: WebKitGTK's "C" is none that Intl accepts. */
export const locale = () => LOCALES[language]

/**
 * Adds the texts of the page, and shows them.
 *
 * @param {Record<string, Record<string, Text>>} table by language and key
 */
export function speak(table) {
  words = { en: { ...shared.en, ...table.en }, zh: { ...shared.zh, ...table.zh } }
  switchTo(preferred())
}

/** @param {'en' | 'zh'} tag */
export function switchTo(tag) {
  language = tag
  document.documentElement.lang = tag === 'zh' ? LOCALES.zh : tag
  renderAll()
  for (const listener of listeners) listener()
}

/** For what is no text of an element, such as a chart. @param {() => void} listener */
export function onLanguage(listener) {
  listeners.add(listener)
}

/**
 * Shows a text in an element, also after the language has changed.
 *
 * @template {HTMLElement} Kind
 * @param {Kind} element
 * @param {string} key
 * @param {Record<string, Value>} [values]
 */
export function say(element, key, values = {}) {
  element.dataset.t = key
  given.set(element, values)
  render(element)
  return element
}

/** Sets values for all texts of the page that name them. @param {Record<string, Value>} values */
export function fill(values) {
  common = { ...common, ...values }
  renderAll()
}

/** @param {string} key @param {Record<string, Value>} [values] */
export function t(key, values = {}) {
  const text = words[language]?.[key] ?? key
  const all = { ...common, ...values }
  if (typeof text === 'function') return text(all)
  return text.replace(/\{(\w+)\}/g, (_, name) => shown(all[name]))
}

/** @param {string} tag */
export function remember(tag) {
  try {
    localStorage.setItem(STORED, tag)
  } catch {
    // Storage is off: the choice lasts as long as the page.
  }
}

/** @returns {'en' | 'zh'} */
function preferred() {
  const asked = new URLSearchParams(location.search).get('lang')
  const known = [asked, stored(), ...navigator.languages].map(tag => tag?.slice(0, 2).toLowerCase())
  const tag = known.find(each => each === 'en' || each === 'zh') ?? 'en'
  // Pages put other things into their URL, and then reload.
  if (asked?.toLowerCase().startsWith(tag)) remember(tag)
  return tag
}

function stored() {
  try {
    return localStorage.getItem(STORED)
  } catch {
    return null
  }
}

function renderAll() {
  for (const element of document.querySelectorAll('[data-t], [data-t-label]')) render(element)
}

/** @param {any} element */
function render(element) {
  const values = given.get(element) ?? {}
  const { t: key, tLabel: label } = element.dataset
  if (label) element.setAttribute('aria-label', t(label, values))
  if (!key) return
  // The title of a document is its text without that of its elements.
  if (element.localName === 'title') {
    element.textContent = t(key, values)
    return
  }
  const text = words[language]?.[key]
  const all = { ...common, ...values }
  const nodes =
    typeof text === 'string'
      ? text.split(/(`[^`]+`|\{\w+\})/).map(part => nodeOf(part, all))
      : [t(key, values)]
  // What has not changed stays: a screen reader would read it again.
  const next = document.createElement('span')
  next.append(...nodes)
  if (next.innerHTML !== element.innerHTML) element.replaceChildren(...next.childNodes)
}

/** @param {string} part of a text @param {Record<string, Value>} values */
function nodeOf(part, values) {
  if (part.startsWith('`')) {
    return Object.assign(document.createElement('code'), { textContent: part.slice(1, -1) })
  }
  if (!/^\{\w+\}$/.test(part)) return part
  const name = part.slice(1, -1)
  const node = Object.assign(document.createElement('span'), { textContent: shown(values[name]) })
  node.dataset.value = name
  return node
}

/** @param {Value | undefined} value */
function shown(value) {
  if (typeof value === 'function') return value()
  if (typeof value === 'number') return value.toLocaleString(locale())
  if (value instanceof Date) return value.toLocaleTimeString(locale(), { hour12: false })
  return value ?? ''
}
