/** XML as libvirt is told it: every value is escaped. */
const ESCAPES: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&apos;',
}

export const escapeXml = (text: string) => text.replace(/[&<>"']/g, character => ESCAPES[character] as string)
