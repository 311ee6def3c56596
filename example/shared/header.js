// @ts-check
/** What the header that frame.js makes does: the language, and the menu of the examples. */
import { language, onLanguage, remember, say, switchTo } from './language.js'

/** @type {(selector: string) => any} */
const $ = selector => document.querySelector(selector)

const button = $('#language')
const menu = $('#examples')

button.onclick = () => {
  const tag = language === 'zh' ? 'en' : 'zh'
  remember(tag)
  const url = new URL(location.href)
  // It would win over the choice when the page is reloaded.
  url.searchParams.delete('lang')
  history.replaceState(history.state, '', url)
  switchTo(tag)
}

onLanguage(showOther)
showOther()

/** The name of the other language, in itself. */
function showOther() {
  const other = language === 'zh' ? 'en' : 'zh'
  button.lang = other
  button.textContent = other === 'zh' ? '中文' : 'English'
}

for (const copy of menu.querySelectorAll('button')) {
  copy.onclick = async () => {
    const command = copy.parentElement.querySelector('code')
    // Over plain HTTP, for example on a phone in your network, there is no clipboard.
    const isCopied = await copyText(command.textContent)
    if (!isCopied) getSelection()?.selectAllChildren(command)
    say(copy, isCopied ? 'header.copied' : 'header.marked')
  }
}

async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text)
    return true
  } catch {
    return false
  }
}

document.addEventListener('keydown', ({ key }) => {
  if (key !== 'Escape' || !menu.open) return
  menu.open = false
  menu.querySelector('summary').focus()
})
document.addEventListener('click', ({ target }) => {
  if (!menu.contains(target)) menu.open = false
})
