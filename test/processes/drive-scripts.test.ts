/** What root's scripts do with a file system that somebody else has filled, on a loop device. SPEC §9.4 */
import { execFileSync, spawnSync } from 'node:child_process'
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { prepareCommand, RECORD_CONFLICTS, RECORD_DAMAGED, UNPREPARED } from '../../agent/guest/drive-scripts.ts'
import { ALL_DRIVES, accountOf, driveGroupOf } from '../../protocol/control/account.ts'
import { describeUnless, missingOf, needsRoot } from '../support/possible.ts'

const reason =
  needsRoot('to mount') ??
  missingOf({ '/usr/bin/setfacl': 'acl', '/usr/bin/chattr': 'e2fsprogs', '/usr/sbin/losetup': 'mount' }) ??
  (existsSync('/dev/loop-control') ? undefined : 'no loop devices')
const owner = accountOf(new Uint8Array(32).fill(1)).id
const group = driveGroupOf('44444444-4444-4444-8444-444444444444').id
const lineOf = (uid: number, letter: string) => `${uid} ${letter.repeat(43)}`
const ADA = lineOf(owner, 'A')

describeUnless(reason, 'preparing a drive', () => {
  let folder: string
  let device: string
  beforeEach(() => {
    folder = mkdtempSync('/var/tmp/mortar-drive-scripts-')
    const image = join(folder, 'image')
    execFileSync('truncate', ['--size=32M', image])
    execFileSync('mkfs.ext4', ['-q', '-F', '-m', '0', image])
    device = execFileSync('losetup', ['--find', '--show', image], { encoding: 'utf8' }).trim()
    mkdirSync(join(folder, 'drive'))
  })
  afterEach(() => {
    execFileSync('losetup', ['--detach', device])
    rmSync(folder, { recursive: true, force: true })
  })

  const prepare = (people: string[], readOnly = false) => {
    const place = join(folder, 'place')
    const given = { device, readOnly, owner, group, all: ALL_DRIVES.id, place, people, name: 'data' }
    const [command = '', ...args] = prepareCommand(given)
    const { status, stdout, stderr } = spawnSync(command, args, { encoding: 'utf8' })
    return { status, stdout, stderr }
  }
  /** Looks at or changes the drive while it is mounted. */
  const within = <T>(use: (path: string) => T): T => {
    const path = join(folder, 'drive')
    execFileSync('mount', ['-o', 'nosuid,nodev', device, path])
    try {
      return use(path)
    } finally {
      execFileSync('umount', [path])
    }
  }
  /** In a shell there, as a user of that uid. */
  const shellAs = (uid: number, groups: number[], path: string, command: string) =>
    spawnSync(
      'setpriv',
      [
        `--reuid=${uid}`,
        `--regid=${uid}`,
        groups.length ? `--groups=${groups}` : '--clear-groups',
        'sh',
        '-c',
        command,
      ],
      { cwd: path, encoding: 'utf8' },
    )

  test('a new drive is its owner’s and everybody’s who may use it, and nobody else’s', () => {
    expect(prepare([ADA])).toMatchObject({ status: 0, stdout: `${ADA}\n` })
    within(path => {
      const { uid, gid, mode } = statSync(path)
      expect([uid, gid, mode & 0o7777]).toEqual([owner, group, 0o2770])
      for (const [uid, groups] of [
        [owner + 1, [group]],
        [owner + 2, [ALL_DRIVES.id]],
      ] as const) {
        expect(shellAs(uid, [...groups], path, `umask 077; mkdir d${uid}; echo ${uid} >d${uid}/file`).status).toBe(0)
      }
      // each writes in what the other made, and the owner too
      const all = `echo more >>d${owner + 1}/file && echo more >>d${owner + 2}/file && rm -r d${owner + 1} d${owner + 2}`
      expect(shellAs(owner, [], path, `cat d*/file; ls d*`).status).not.toBe(0)
      expect(shellAs(owner, [ALL_DRIVES.id], path, all)).toMatchObject({ status: 0, stderr: '' })
      const stranger = shellAs(owner + 3, [], path, 'ls . ; echo x >x')
      expect(stranger.stdout).toBe('')
      expect(readdirSync(path).sort()).toEqual(['.mortar', 'lost+found'])
    })
  })

  test('a drive of the shared user of older versions is handed over, and no link on it is followed', () => {
    const before = lstatSync('/etc/passwd')
    within(path => {
      mkdirSync(join(path, 'deep/er'), { recursive: true })
      writeFileSync(join(path, 'deep/er/file'), 'x')
      writeFileSync(join(path, 'private'), 'x', { mode: 0o600 })
      for (const command of [
        'ln -s /etc/passwd link; ln -s /etc folder-link; ln -s /etc .mortar; mkfifo fifo; cp /bin/true suid; ln deep/er/file hard',
        'chown -hR 1000:1000 .; chmod 4755 suid; echo r >of-root; echo b >of-bin; chown 2:2 of-bin',
      ]) {
        execFileSync('sh', ['-c', command], { cwd: path })
      }
    })
    expect(prepare([ADA])).toMatchObject({ status: 0, stdout: `${ADA}\n` })
    within(path => {
      const ownersOf = (name: string) => [lstatSync(join(path, name)).uid, lstatSync(join(path, name)).gid]
      for (const name of ['deep', 'deep/er/file', 'private', 'link', 'folder-link', 'fifo', 'suid', 'hard']) {
        expect(ownersOf(name), name).toEqual([owner, group])
      }
      expect([ownersOf('of-root'), ownersOf('of-bin')]).toEqual([
        [0, 0],
        [2, 2],
      ])
      // what all users of the old version could write, all may who use the drive; what was private stays so
      expect(shellAs(owner + 1, [group], path, 'echo more >>deep/er/file && mkdir deep/new').status).toBe(0)
      expect(shellAs(owner + 1, [group], path, 'cat private').status).not.toBe(0)
      // what was in the place of the record is kept aside
      const [aside = ''] = readdirSync(path).filter(name => name.startsWith('.mortar-other-'))
      expect(lstatSync(join(path, aside, '.mortar')).isSymbolicLink()).toBe(true)
      expect(lstatSync(join(path, '.mortar')).isDirectory()).toBe(true)
    })
    const after = lstatSync('/etc/passwd')
    expect([after.uid, after.gid, after.mode, after.mtimeMs]).toEqual([
      before.uid,
      before.gid,
      before.mode,
      before.mtimeMs,
    ])
    expect(existsSync('/etc/people')).toBe(false)
    // once only
    within(path => execFileSync('sh', ['-c', 'echo x >later; chown 1000:1000 later'], { cwd: path }))
    expect(prepare([ADA]).status).toBe(0)
    within(path => expect(statSync(join(path, 'later')).uid).toBe(1000))
  })

  test('a uid that is another key’s on the drive keeps the drive shut, and the record only grows', () => {
    const bob = lineOf(owner + 1, 'B')
    expect(prepare([ADA, bob]).stdout).toBe(`${ADA}\n${bob}\n`)
    expect(prepare([ADA, lineOf(owner + 1, 'C')])).toMatchObject({ status: RECORD_CONFLICTS, stdout: '' })
    expect(prepare([ADA]).stdout).toBe(`${ADA}\n${bob}\n`)
  })

  test('whoever may write everywhere on the drive can neither read, change, move nor replace the record', () => {
    prepare([ADA])
    within(path => {
      for (const command of [
        'mv .mortar other',
        'rm -rf .mortar',
        'rmdir .mortar',
        'cat .mortar/people',
        'echo x >>.mortar/people',
        'chmod 777 .mortar',
        'ln .mortar/people mine',
        'mv -T .mortar lost+found',
      ]) {
        expect(shellAs(owner, [group, ALL_DRIVES.id], path, command).status, command).not.toBe(0)
      }
      expect(readFileSync(join(path, '.mortar/people'), 'utf8')).toBe(`${ADA}\n`)
    })
  })

  test('somebody new is noted on a drive that is full', () => {
    prepare([ADA])
    within(path => {
      shellAs(owner, [], path, 'cat /dev/zero >full; while echo x >>small; do :; done')
      expect(spawnSync('sh', ['-c', 'head -c 100000 /dev/zero >more'], { cwd: path }).status).not.toBe(0)
    })
    const bob = lineOf(owner + 1, 'B')
    expect(prepare([ADA, bob])).toMatchObject({ status: 0, stdout: `${ADA}\n${bob}\n` })
  })

  test('a drive that is not ready is not opened for reading alone, one that is stays as it is', () => {
    expect(prepare([ADA], true).status).toBe(UNPREPARED)
    prepare([ADA])
    expect(prepare([ADA, lineOf(owner + 1, 'B')], true)).toMatchObject({ status: 0, stdout: `${ADA}\n` })
    expect(prepare([lineOf(owner, 'C')], true).status).toBe(RECORD_CONFLICTS)
  })

  test('a line that a power cut has cut off is taken away, and keeps nobody out', () => {
    prepare([ADA])
    for (const cut of ['12345 abc', '\\0\\0\\0']) {
      within(path => execFileSync('sh', ['-c', `printf '${cut}' >>.mortar/people`], { cwd: path }))
      expect(prepare([ADA], true).status).toBe(UNPREPARED)
      expect(prepare([ADA])).toMatchObject({ status: 0, stdout: `${ADA}\n` })
      expect(prepare([ADA], true)).toMatchObject({ status: 0, stdout: `${ADA}\n` })
    }
  })

  test('a record is never filled beyond what is read of it', () => {
    const many = Array.from({ length: 1_100 }, (_, i) => lineOf(owner + 1 + i, 'B'))
    expect(prepare([ADA, ...many]).status).toBe(RECORD_DAMAGED)
    expect(prepare([ADA])).toMatchObject({ status: 0, stdout: expect.stringContaining(ADA) })
  })

  test.each([
    ['is no record', 'printf "%s\\n" nonsense >people'],
    ['is too long', 'head -c 70000 /dev/zero >people'],
    ['is a link', 'ln -s /etc/passwd people'],
    ['is a FIFO', 'mkfifo people'],
    ['is another’s', 'touch people; chown 5 people'],
    ['is missing', 'true'],
  ])('a record that root of another VM forged is refused when it %s', (_, forge) => {
    prepare([ADA])
    within(path => {
      const script = `chattr -i .mortar; cd .mortar; chattr -a people; rm people; ${forge}; cd ..; chattr +i .mortar`
      execFileSync('sh', ['-c', script], { cwd: path })
    })
    expect(prepare([ADA])).toMatchObject({ status: RECORD_DAMAGED, stdout: '' })
  })
})
