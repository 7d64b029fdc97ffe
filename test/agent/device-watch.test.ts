/** Drives that are being plugged in are found once they are there, by one look for all who wait. SPEC §9.4 */
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import type { Device } from '../../agent/guest/block-devices.ts'
import { DeviceWatch } from '../../agent/guest/device-watch.ts'
import { MortarError } from '../../protocol/core/errors.ts'

const serial = '0123456789abcdef0123'
const device = { serial, path: '/dev/sda', sizeBytes: 1 }
let devices: Device[]
let looks: number
let watch: DeviceWatch
beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval', 'performance'] })
  devices = []
  looks = 0
  watch = new DeviceWatch(() => {
    looks++
    return devices
  })
})
afterEach(() => vi.useRealTimers())

const { signal } = new AbortController()
const many = (calls: number) =>
  Array.from({ length: calls }, () => watch.find(serial, signal).catch(({ code }) => code))

test('all who wait find a device that appears, by the same look', async () => {
  const found = many(100)
  vi.advanceTimersByTime(5_000)
  devices = [device]
  vi.advanceTimersByTime(200)
  expect(new Set(await Promise.all(found))).toEqual(new Set([device]))
  expect(looks).toBe(100 + 26)
  expect(vi.getTimerCount()).toBe(0)
})

test('one that does not appear in ten seconds is not attached, and nobody looks for it any longer', async () => {
  const failed = many(3)
  vi.advanceTimersByTime(9_800)
  expect(vi.getTimerCount()).toBe(1)
  vi.advanceTimersByTime(200)
  expect(await Promise.all(failed)).toEqual(['drive-detached', 'drive-detached', 'drive-detached'])
  expect(vi.getTimerCount()).toBe(0)
})

test('who goes away waits no longer, and others go on', async () => {
  const ending = new AbortController()
  const gone = watch.find(serial, ending.signal)
  const [stays] = many(1)
  ending.abort(new MortarError('going-away'))
  await expect(gone).rejects.toMatchObject({ code: 'going-away' })
  await expect(watch.find(serial, ending.signal)).rejects.toMatchObject({ code: 'going-away' })
  devices = [device]
  vi.advanceTimersByTime(200)
  expect(await stays).toEqual(device)
})

test('a serial that several devices claim is none, and one without a size is not there', async () => {
  const waiting = watch.find(serial, signal)
  devices = [{ ...device, sizeBytes: 0 }]
  vi.advanceTimersByTime(200)
  devices = [device, { ...device, path: '/dev/sdb' }]
  vi.advanceTimersByTime(200)
  await expect(waiting).rejects.toMatchObject({ code: 'drive-failed' })
})
