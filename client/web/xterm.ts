/** The only file that names xterm: a terminal's screen, which reports keys and its size and takes bytes. */
import { FitAddon } from '@xterm/addon-fit'
import { Terminal } from '@xterm/xterm'
import { encodeText } from '../../protocol/core/bytes.ts'

const DARK = { background: '#16181d', foreground: '#e4e6eb', cursor: '#e98a5f', selectionBackground: '#3b4252' }
const LIGHT = {
  background: '#fdfdfc',
  foreground: '#23262d',
  cursor: '#b4491f',
  cursorAccent: '#ffffff',
  selectionBackground: '#d5dbe6',
  // xterm's own are made for a dark ground
  yellow: '#8a6100',
  brightYellow: '#7a5c00',
  green: '#1d7a3a',
  brightGreen: '#1d7a3a',
  cyan: '#0b7285',
  brightCyan: '#0b7285',
  white: '#5c636f',
  brightWhite: '#23262d',
}
const SCROLLBACK_LINES = 5_000

export interface Screen {
  readonly cols: number
  readonly rows: number
  /** Resolves once drawn. */
  write(bytes: Uint8Array): Promise<void>
  focus(): void
  dispose(): void
}

export interface ScreenEvents {
  onKeys(bytes: Uint8Array): void
  onSize(cols: number, rows: number): void
  /** the person asks to leave the terminal by keyboard, in which Tab goes to the VM */
  onLeave(): void
}

/** Opens a screen that fills `element` and follows its size and the person's colour scheme. */
export function openScreen(element: HTMLElement, events: ScreenEvents): Screen {
  const dark = matchMedia('(prefers-color-scheme: dark)')
  const themeOf = () => (dark.matches ? DARK : LIGHT)
  const terminal = new Terminal({
    theme: themeOf(),
    fontFamily: 'ui-monospace, SFMono-Regular, Menlo, "DejaVu Sans Mono", monospace',
    fontSize: 13,
    scrollback: SCROLLBACK_LINES,
    minimumContrastRatio: 4.5,
    screenReaderMode: false,
  })
  const fit = new FitAddon()
  terminal.loadAddon(fit)
  terminal.open(element)
  fit.fit()
  const follow = new ResizeObserver(() => fit.fit())
  follow.observe(element)
  const recolour = () => {
    terminal.options.theme = themeOf()
  }
  dark.addEventListener('change', recolour)
  terminal.onData(text => events.onKeys(encodeText(text)))
  // mouse reports of old programs: one byte per character
  terminal.onBinary(text => events.onKeys(Uint8Array.from(text, character => character.charCodeAt(0))))
  terminal.onResize(({ cols, rows }) => events.onSize(cols, rows))
  terminal.attachCustomKeyEventHandler(event => {
    if (!(event.ctrlKey && event.key === 'F6')) return true
    if (event.type === 'keydown') events.onLeave()
    return false
  })
  return {
    get cols() {
      return terminal.cols
    },
    get rows() {
      return terminal.rows
    },
    write: bytes => new Promise(resolve => terminal.write(bytes, resolve)),
    focus: () => terminal.focus(),
    dispose() {
      follow.disconnect()
      dark.removeEventListener('change', recolour)
      terminal.dispose()
    },
  }
}
