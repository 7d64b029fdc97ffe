/** Headers that root on the host forges, well-formed each, while the drive is detached: the agent opens none of them. SPEC §9.4 */
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import { findDrive } from '../../client/drives/drives.ts'
import { digestFile } from '../../images/steps.ts'
import { describeGuest } from '../support/guest-ring.ts'
import { Machine } from '../support/machine.ts'
import { driveKeyOf, handsOf } from '../support/person.ts'
import {
  extraKeyslot,
  forged,
  headerOf,
  nullCipher,
  reencryption,
  uuidOf,
  writeHeader,
} from './drive-header-forgery.ts'

const MARK = 'a sentence that is still there'
const same = () => {}

describeGuest('drives with forged headers', () => {
  let machine: Machine
  let image: string
  /** as the agent made it */
  let header: Buffer
  /** of the other drive of the same owner */
  let others: Buffer

  beforeAll(async () => {
    machine = await Machine.start()
    await machine.launch(owner(), 'lab')
    for (const name of ['data', 'more']) await machine.addDrive(owner(), 'lab', name)
    await machine.inVm(owner(), 'lab', ['sh', '-c', `echo '${MARK}' > /drives/data/text`])
    for (const name of ['data', 'more']) await machine.must(owner(), ['drive', 'lock', name])
    await machine.must(owner(), ['drive', 'detach', 'data'])
    image = await imageOf('data')
    ;[header, others] = [await headerOf(image), await headerOf(await imageOf('more'))]
  })
  afterEach(async () => {
    await machine.must(owner(), ['drive', 'detach', 'data'])
    await writeHeader(image, header)
  })
  afterAll(() => machine?.dispose())

  const owner = () => machine.people.owner
  const imageOf = async (name: string) => {
    const { broker } = await handsOf(machine, owner())
    return join(machine.dataDir, 'drives', `${(await findDrive(broker, name)).id}.raw`)
  }
  const cryptsetup = (args: string[], input: Uint8Array = new Uint8Array(0)) =>
    spawnSync('cryptsetup', args, { input }).status
  const opensOnHost = (key: Uint8Array) =>
    cryptsetup(['open', '--test-passphrase', '--type=luks2', '--key-file=-', '--keyfile-size=64', image], key) === 0

  /** by what cryptsetup alone makes of it with the drive's true key: it would open the first two */
  test.each([
    ['names the null cipher', () => forged(header, nullCipher), true],
    ['has one keyslot more', () => forged(header, extraKeyslot), true],
    ['has a reencryption under way', () => forged(header, reencryption), false],
    ['is that of another drive', () => others, false],
    ['is that of another drive under this one’s UUID', () => forged(others, same, uuidOf(header)), false],
  ])('a whole header that %s is refused, and neither key nor byte goes to the drive', async (_what, forge, opens) => {
    const key = await driveKeyOf(await handsOf(machine, owner()), 'data')
    expect(opensOnHost(key)).toBe(true)
    await writeHeader(image, forge())
    expect(cryptsetup(['luksDump', image])).toBe(0)
    expect(opensOnHost(key)).toBe(opens)
    const before = await digestFile(image)
    await machine.must(owner(), ['drive', 'attach', 'data', 'lab'])

    const { code, stderr } = await machine.mortar(owner(), ['--json', 'drive', 'unlock', 'data'])
    expect(code).not.toBe(0)
    expect(JSON.parse(stderr)).toMatchObject({ error: { code: 'drive-header' } })

    const inVm = (...argv: string[]) => machine.inVm(owner(), 'lab', argv, { user: 'root' })
    expect(await inVm('lsblk', '-rno', 'TYPE')).not.toContain('crypt')
    expect(await inVm('sh', '-c', 'ls /dev/mapper')).toBe('control\n')
    await inVm('sync')
    expect(await digestFile(image)).toBe(before)
  })

  test('the drive opens as before once its own header is back', async () => {
    await machine.must(owner(), ['drive', 'attach', 'data', 'lab'])
    // five keys of a drive may be tried in a minute
    const unlock = async () => (await machine.mortar(owner(), ['drive', 'unlock', 'data'])).code
    await expect.poll(unlock, { timeout: 90_000, interval: 5_000 }).toBe(0)
    expect(await machine.inVm(owner(), 'lab', ['cat', '/drives/data/text'])).toBe(`${MARK}\n`)
    await machine.must(owner(), ['drive', 'lock', 'data'])
  })
})
