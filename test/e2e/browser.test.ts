import { describe, expect, onTestFinished, test } from 'vitest'
import { ENGINES, launch, waitFor } from './browser.js'

const PNG = [0x89, 0x50, 0x4e, 0x47]

describe.each(ENGINES)('the driver of %s', engine => {
  test('opens pages of the requested size and colour scheme and shows them', async () => {
    const viewport = { width: 600, height: 700 }
    const browser = await launch(engine, { viewport, colorScheme: 'dark', shots: true })
    onTestFinished(() => browser.close())
    const page = await browser.open()
    await page.goto('data:text/html,<h1>Hello')
    const seen = await page.eval(() => ({
      width: innerWidth,
      height: innerHeight,
      isDark: matchMedia('(prefers-color-scheme: dark)').matches,
    }))
    expect(seen).toEqual({ ...viewport, isDark: true })
    expect([...(await page.shot()).slice(0, 4)]).toEqual(PNG)
    await waitFor(page, text => document.body.textContent === text, 'Hello')
    await page.close()
  })

  test('runs functions in the page and rejects with what they throw there', async () => {
    const browser = await launch(engine)
    onTestFinished(() => browser.close())
    const page = await browser.open()
    expect(await page.eval(async (a: number, b: string) => [a, b], 1, 'two')).toEqual([1, 'two'])
    const failed = page.eval(() => {
      throw new Error('of the page')
    })
    await expect(failed).rejects.toThrow('of the page')
  })
})
