/** Attacks by what a grantee leaves lying about in a real guest: full file systems, set-group-id programs. SPEC §2.9, §9.2, §9.6 */
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, beforeAll, expect } from 'vitest'
import { driveGroupOf } from '../../protocol/control/account.ts'
import { describeGuest } from '../support/guest-ring.ts'
import { Machine } from '../support/machine.ts'
import type { Person } from '../support/people.ts'
import { attack } from './attack.ts'

/** File systems in memory that the account may write to, and folders of /run. */
const WRITABLE = `cut -d' ' -f2,3 /proc/mounts | while read -r at type; do
  [ "$type" = tmpfs ] && [ -w "$at" ] && echo "$at"
done
find /run -xdev -type d -writable 2>/dev/null
true`

/** Writes to one until it takes no more, or the account has no more memory. */
const fill = (at: string) => `head -c 400M /dev/zero >'${at}'/fill-$(id -u)
i=0; while [ $i -lt 2000 ] && : >'${at}'/inode-$(id -u)-$i; do i=$((i + 1)); done`

describeGuest('what grantees leave lying about', () => {
  let machine: Machine
  const owner = () => machine.people.owner
  const bob = () => machine.people.other
  const carl = () => machine.people.administrator

  const sh = (person: Person, script: string, ...more: string[]) =>
    machine.mortar(person, ['exec', 'lab', ...more, '--', 'sh', '-c', script], { input: '', timeoutMs: 240_000 })
  const must = async (person: Person, script: string, ...more: string[]) => {
    const { code, stdout, stderr } = await sh(person, script, ...more)
    expect(code, `${script}\n${stdout}${stderr}`).toBe(0)
    return stdout
  }
  const grant = (to: Person, ...more: string[]) =>
    machine.must(owner(), ['grant', 'create', 'lab', to.identity, '--allow', 'exec', ...more])

  beforeAll(async () => {
    machine = await Machine.start()
    await machine.launch(owner(), 'lab')
    await machine.addDrive(owner(), 'lab', 'data')
    await grant(bob(), '--drive', 'data')
    await grant(carl())
  })
  afterAll(() => machine?.dispose())

  attack('a set-group-id program gives a grantee nothing that the grant no longer gives', { tries: 2 }, async () => {
    await grant(bob(), '--drive', 'data')
    const { drives } = await machine.must<{ drives: { id: string; name: string }[] }>(owner(), ['drive', 'list'])
    const group = driveGroupOf(drives[0]?.id ?? '').name
    await must(
      bob(),
      `echo secret >/drives/data/file; chmod 660 /drives/data/file
       cp /bin/bash ~/keep; chgrp ${group} ~/keep; chmod 2755 ~/keep; chmod 711 ~; ls -l ~/keep | grep -q '^-rwxr-s'`,
    )
    // the drive is no longer among what is granted
    await grant(bob())
    const { code, stdout } = await sh(bob(), `~/keep -p -c 'cat /drives/data/file; echo more >/drives/data/more'`)
    expect([code, stdout]).toEqual([1, ''])
    const home = (await must(bob(), 'echo ~')).trim()
    expect((await sh(carl(), `${home}/keep -p -c 'cat /drives/data/file'`)).stdout).toBe('')
    await must(owner(), 'cat /drives/data/file && ! test -e /drives/data/more')
  })

  attack('nobody reads the command lines of other people’s programs', { tries: 2 }, async () => {
    const [half, other] = [crypto.randomUUID(), crypto.randomUUID()]
    await must(carl(), `nohup sh -c 'sleep 600; : ${half}-${other}' >/dev/null 2>&1 &`)
    // no command line of the search itself holds the mark whole
    const search = `a=${half} b=${other}; cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' ' | grep -c -- "$a[-]$b"; true`
    expect(await must(bob(), search)).toBe('0\n')
    expect(await must(bob(), 'ls -d /proc/1 2>/dev/null | wc -l')).toBe('0\n')
    // one's own are there, and root sees all
    expect(await must(carl(), search)).toBe('1\n')
    expect(await must(owner(), search, '--user', 'root')).toBe('1\n')
  })

  attack(
    'a drive that is open for writing stays so in the eyes of an agent that starts anew',
    { tries: 1 },
    async () => {
      await must(
        owner(),
        "nohup sh -c \"sleep 1; kill -9 $(pidof mortar-agent | tr ' ' '\\n' | sort -n | head -1)\" >/dev/null 2>&1 &",
        '--user',
        'root',
      )
      await delay(5_000)
      const { code, stderr } = await machine.mortar(owner(), ['drive', 'unlock', 'data', '--read-only'])
      expect([code, stderr]).toEqual([6, expect.stringContaining('mounted in another way')])
      await machine.must(owner(), ['drive', 'unlock', 'data'])
      // who is new is noted on it, and gets in
      await grant(bob(), '--drive', 'data')
      await must(bob(), 'echo on >/drives/data/after')
    },
  )

  attack(
    'a grantee who fills every file system in reach keeps neither the own grant from ending nor others from starting programs',
    { tries: 2, timeoutMs: 600_000 },
    async () => {
      const reach = new Set((await must(bob(), WRITABLE)).trim().split('\n'))
      // each is a file system of its own, none is what PID 1 and the agent write to
      expect([...reach].sort()).toEqual(['/dev/shm', '/run/lock', '/run/mortar-pipes', '/tmp'])
      // the kernel ends what takes too much, the own runner with it
      for (const at of reach) await sh(bob(), fill(at))
      await sh(bob(), 'nohup sleep 907 >/dev/null 2>&1 &')
      expect(await must(carl(), 'echo goes on')).toBe('goes on\n')
      expect(await must(owner(), 'echo goes on')).toBe('goes on\n')
      const { programsEnded } = await machine.must<{ programsEnded: boolean }>(owner(), [
        'grant',
        'revoke',
        'lab',
        bob().identity,
      ])
      expect(programsEnded).toBe(true)
      expect(await must(owner(), `pgrep -fc 'sleep [9]07' || true`, '--user', 'root')).toBe('0\n')
      await must(
        owner(),
        'find /tmp /dev/shm /run/lock -name "fill-*" -delete -o -name "inode-*" -delete',
        '--user',
        'root',
      )
      await grant(bob(), '--drive', 'data')
    },
  )
})
