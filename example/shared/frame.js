// @ts-check
// What all pages have around their own part: the head of the document, and the header.
import { readFileSync } from 'node:fs'
import { basename } from 'node:path'
import { fileURLToPath } from 'node:url'
import { links } from './source.js'
import { words } from './words.js'

const { en } = words
const names = Object.keys(en)
  .filter(key => key.startsWith('example.'))
  .map(key => key.slice('example.'.length))

const ICON = `data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Crect x='1' y='5' width='4' height='6' rx='1' fill='%230b7a5c'/%3E%3Crect x='6' y='5' width='4' height='6' rx='1' fill='%23e08a00'/%3E%3Crect x='11' y='5' width='4' height='6' rx='1' fill='%230b7a5c'/%3E%3C/svg%3E`

/**
 * The page of an example: its public/index.html in the frame. It is in English until language.js has loaded.
 *
 * @param {string} url of the example's server.js
 */
export function pageOf(url) {
  const name = basename(fileURLToPath(new URL('.', url)))
  const content = readFileSync(new URL('public/index.html', url), 'utf8')
  return `<!doctype html>
<html lang="en">
  <head>
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <meta name="color-scheme" content="light dark">
    <title data-t="page">koa-sse-pool</title>
    <link rel="icon" href="${ICON}">
    <link rel="stylesheet" href="shared/look.css">
    <link rel="stylesheet" href="page.css">
    <script src="client.js"></script>
    <script type="module" src="page.js"></script>
    <script type="module" src="shared/header.js"></script>
  </head>
  <body>
    <header class="bar">
      <p class="brand">koa-sse-pool <span data-t="example.${name}">${en[`example.${name}`] ?? name}</span></p>
      <nav>
        <details id="examples">
          <summary data-t="header.examples">${en['header.examples']}</summary>
          <div class="panel">
            <p data-t="header.how">${en['header.how']}</p>
            <ul>${names.map(each => itemOf(each, each === name)).join('')}
            </ul>
          </div>
        </details>
        <a href="${links.example(name)}" target="_blank" data-t="header.source">${en['header.source']}</a>
        <a href="${links.docs}" target="_blank" data-t="header.docs">${en['header.docs']}</a>
        <button id="language" type="button"></button>
      </nav>
      <p id="state" role="status" data-state="connecting"></p>
    </header>

${content}
  </body>
</html>
`
}

/** @param {string} name @param {boolean} isHere */
function itemOf(name, isHere) {
  const title = `<b data-t="example.${name}">${en[`example.${name}`]}</b>`
  const how = isHere
    ? `<em data-t="header.here">${en['header.here']}</em>`
    : `<a href="${links.readme(name)}" target="_blank" data-t="header.readme">${en['header.readme']}</a>`
  const command = `<code>npm run example -- ${name}</code><button class="small" type="button" data-t="header.copy">${en['header.copy']}</button>`
  return `
              <li${isHere ? ' aria-current="page"' : ''}>
                <p class="bar">${title}${how}</p>
                <p data-t="about.${name}">${en[`about.${name}`]}</p>${isHere ? '' : `\n                <p class="command">${command}</p>`}
              </li>`
}
