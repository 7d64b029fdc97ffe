/** Clients, broker and agent killed at random while programs run, in the short form of `npm run nightly`. SPEC §8.2 */
import { expect, test } from 'vitest'
import { runKills } from '../nightly/kills.ts'
import { describeUnless, missingOf, needsRoot } from '../support/possible.ts'

const KILLS = 10
/** an agent that was killed is the same one again only where it can keep its keys in the kernel */
const missing =
  missingOf({ keyctl: 'keyutils', 'qemu-img': 'qemu-utils' }) ?? needsRoot('to run programs as somebody else')

describeUnless(missing, 'random kills', () => {
  test('nothing is lost, repeated or left running when clients, broker and agent are killed at random', async () => {
    const { kills, whole, wrong } = await runKills(KILLS, `${Date.now()}`)
    expect(wrong).toEqual([])
    expect(whole).toBeGreaterThan(0)
    expect(Object.values(kills).reduce((sum, count) => sum + count)).toBeGreaterThanOrEqual(KILLS)
  }, 300_000)
})
