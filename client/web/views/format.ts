/** Values as people read them. */
const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB'] as const

/** Three digits at most: 64 MiB, 1.5 GiB. */
export function formatBytes(bytes: number): string {
  let unit = 0
  let value = bytes
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024
    unit++
  }
  const digits = value < 10 && !Number.isInteger(value) ? 1 : 0
  return `${value.toFixed(digits)} ${UNITS[unit]}`
}

/** Date and time of this place; what cannot be read is shown as it came. */
export function formatTime(iso: string): string {
  const time = new Date(iso)
  if (Number.isNaN(time.getTime())) return iso
  return time.toLocaleString(undefined, { dateStyle: 'medium', timeStyle: 'medium' })
}

/** Time of day, for lists of events. */
export function formatClock(iso: string): string {
  const time = new Date(iso)
  return Number.isNaN(time.getTime()) ? iso : time.toLocaleTimeString(undefined, { timeStyle: 'medium' })
}

/** How a program ended. */
export function formatExit({ code, signal }: { code: number | null; signal: string | null }): string {
  return signal === null ? `exit code ${code}` : `ended by ${signal}`
}
