// @ts-check
// The default theme with the fonts of the reader's system, which need no download and have Chinese.
import theme from 'vitepress/theme-without-fonts'
import './style.css'

export default theme
