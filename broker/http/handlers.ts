/** HANDLERS: one per row of ROUTES, with the shape of its body. Access by role is checked before, access to a thing here. SPEC §3.3 */
import { join } from 'node:path'
import {
  brickImport,
  type brokerInfo,
  certificateRequest,
  challengeRequest,
  driveAttach,
  driveCreate,
  driveNote,
  grantRequest,
  launchRequest,
  loginRequest,
  type RouteName,
  sessionRequest,
  sshKeyRequest,
  type Vm,
} from '../../protocol/control/api.ts'
import { MortarError } from '../../protocol/core/errors.ts'
import type { z } from '../../protocol/core/schema.ts'
import { hasAll, listScope, type Need, requireAccess, requireVm } from '../auth/access.ts'
import type { Login, User } from '../auth/login.ts'
import { granted } from '../auth/views.ts'
import type { Bricks } from '../bricks/bricks.ts'
import type { DataDir } from '../data-dir.ts'
import type { Drives } from '../drives/drives.ts'
import type { SshKeys } from '../ssh/keys.ts'
import type { DriveStore } from '../store/drive-store.ts'
import type { VmRecord } from '../store/vm-store.ts'
import { readTail } from '../vms/console.ts'
import type { Grants } from '../vms/grants.ts'
import type { LaunchRequest } from '../vms/launch.ts'
import type { Lifecycle } from '../vms/lifecycle.ts'
import type { VmBook } from '../vms/vm-book.ts'

const LONGEST_WAIT_MS = 30_000

/** What handlers work with. */
export interface Services {
  readonly login: Login
  readonly book: VmBook
  readonly bricks: Bricks
  readonly drives: Drives
  readonly driveStore: DriveStore
  readonly sshKeys: SshKeys
  /** the users who named an SSH key ("type base64") */
  sshUsersOf(key: string): readonly string[]
  readonly lifecycle: Lifecycle
  readonly grants: Grants
  readonly dataDir: DataDir
  describe(): Promise<z.output<typeof brokerInfo>>
  launch(user: User, request: LaunchRequest): Promise<VmRecord>
  /** `user`, `agent`: Ed25519 keys, base64url, of who asks and of the boot that is meant. Fails with vm-unreachable, boot-contested or rate-limited. */
  openPair(user: string, vmId: string, kind: 'channel' | 'ssh', agent?: string): { session: string; token: string }
  /** Keeps the owner's certificate, which may decide who the VM is. Fails with certificate-invalid or boot-contested. */
  certify(record: VmRecord, certificate: string): void
}

export interface Request {
  /** absent only where anyone may call */
  readonly user: User | undefined
  /** the path's :id */
  readonly id: string
  /** the path's :grantee */
  readonly grantee: string
  readonly query: Readonly<Record<string, string>>
  readonly body: unknown
}

interface Handler {
  readonly body?: z.ZodType
  readonly encoding?: 'cbor'
  run(services: Services, request: Request): Promise<unknown>
}

/** Ties the type of a body to its schema. */
function handler<S extends z.ZodType>(
  body: S,
  run: (services: Services, request: Omit<Request, 'body'> & { body: z.output<S> }) => Promise<unknown>,
  encoding?: 'cbor',
): Handler {
  return {
    body,
    ...(encoding && { encoding }),
    run: (services, request) => run(services, { ...request, body: request.body as z.output<S> }),
  }
}

export const HANDLERS: Readonly<Record<RouteName, Handler>> = {
  'broker.show': { run: services => services.describe() },
  'login.challenge': handler(challengeRequest, async ({ login }, { body }) => login.challenge(body.user)),
  'login.answer': handler(loginRequest, async ({ login }, { body }) => login.answer(body)),

  'brick.list': { run: async ({ bricks }) => ({ bricks: bricks.list() }) },
  'brick.import': handler(brickImport, async ({ bricks }, { body }) => ({
    brick: await bricks.import(body.imagePath, body.manifestPath),
  })),
  'brick.delete': {
    async run({ bricks }, { id }) {
      await bricks.delete(id)
      return {}
    },
  },

  'vm.list': {
    async run(services, request) {
      const user = userOf(request)
      const records = services.book.list(listScope(user))
      const seen = new Set(records.map(({ id }) => id))
      const granted = services.grants.vmsOf(user.key).flatMap(id => (seen.has(id) ? [] : (services.book.get(id) ?? [])))
      return { vms: [...records, ...granted].map(record => viewOf(services, user, record)) }
    },
  },
  'vm.create': handler(
    launchRequest,
    async (services, request) => {
      const record = await services.launch(userOf(request), request.body)
      services.lifecycle.watchDeadline(record)
      return { vm: viewOf(services, userOf(request), record) }
    },
    'cbor',
  ),
  'vm.show': {
    async run(services, request) {
      const record = vmOf(services, request, 'any')
      if (request.query.after !== undefined) {
        const timeoutMs = Math.min(Number(request.query.timeoutMs ?? LONGEST_WAIT_MS) || 0, LONGEST_WAIT_MS)
        await services.book.changed(record.id, Number(request.query.after), { user: userOf(request).key, timeoutMs })
      }
      return showVm(services, request)
    },
  },
  'vm.stop': {
    async run(services, request) {
      await services.lifecycle.stop(vmOf(services, request, 'power'))
      return showVm(services, request)
    },
  },
  'vm.delete': {
    async run(services, request) {
      await services.lifecycle.delete(vmOf(services, request, 'power'))
      return {}
    },
  },
  'vm.log': {
    async run(services, request) {
      const { id } = vmOf(services, request)
      return { console: await readTail(join(services.dataDir.vm(id), 'console.log')) }
    },
  },
  'vm.certify': handler(certificateRequest, async (services, request) => {
    services.certify(vmOf(services, request), request.body.certificate)
    return showVm(services, request)
  }),
  'vm.grant': handler(grantRequest, async (services, request) => {
    const record = vmOf(services, request)
    const grantee = services.grants.put(record, request.body.grant)
    services.book.note(record.id, `access granted to ${grantee}`)
    return showVm(services, request)
  }),
  'vm.ungrant': {
    async run(services, request) {
      const { id } = vmOf(services, request)
      if (services.grants.remove(id, request.grantee)) {
        services.book.note(id, `access taken from ${request.grantee}`)
      }
      return showVm(services, request)
    },
  },
  'vm.session': handler(sessionRequest, async (services, request) => {
    const { kind, agent } = request.body
    const need = agent !== undefined ? 'owner' : kind === 'ssh' ? 'ssh' : 'any'
    const { id } = vmOf(services, request, need)
    return services.openPair(userOf(request).key, id, kind, agent)
  }),

  'drive.list': {
    run: async ({ driveStore }, request) => ({ drives: driveStore.list(listScope(userOf(request))) }),
  },
  'drive.create': handler(driveCreate, async ({ drives }, request) => ({
    drive: await drives.create(userOf(request), request.body),
  })),
  'drive.note': handler(driveNote, async (services, request) => {
    const { id } = driveOf(services, request)
    services.driveStore.setNote(id, request.body.note)
    return { drive: services.driveStore.get(id) }
  }),
  'drive.attach': handler(driveAttach, async (services, request) => {
    const drive = driveOf(services, request)
    const vm = vmOf(services, { ...request, id: request.body.vm })
    return { drive: await services.drives.attach(drive, vm) }
  }),
  'drive.detach': {
    run: async (services, request) => ({ drive: await services.drives.detach(driveOf(services, request)) }),
  },
  'drive.delete': {
    async run(services, request) {
      await services.drives.delete(driveOf(services, request))
      return {}
    },
  },

  'ssh.list': { run: async ({ sshKeys }, request) => ({ keys: sshKeys.list(userOf(request).key) }) },
  'ssh.key': handler(sshKeyRequest, async ({ sshKeys }, request) => ({
    key: sshKeys.add(userOf(request).key, request.body.publicKey),
  })),
  'ssh.remove': {
    async run({ sshKeys }, request) {
      sshKeys.remove(userOf(request).key, request.id)
      return {}
    },
  },
}

function userOf({ user }: { user: User | undefined }): User {
  if (!user) throw new MortarError('login-expired')
  return user
}

type Asked = { readonly user: User | undefined; readonly id: string }

/** `need`: what the holder of a grant needs for it. Fails with not-found or denied. */
function vmOf({ book, grants }: Services, request: Asked, need: Need = 'owner'): VmRecord {
  const user = userOf(request)
  return requireVm(user, book.get(request.id), request.id, grants.permissionsOf(user.key, request.id), need)
}

function viewOf({ book, grants }: Services, user: User, record: VmRecord): Vm {
  if (hasAll(user, record)) return book.view(record, grants.signedOf(record.id))
  const mine = grants.of(user.key, record.id)
  return granted(book.view(record, grants.signedOf(record.id, user.key)), mine ?? { permissions: [], drives: [] })
}

function showVm(services: Services, request: Asked): { vm: Vm } {
  return { vm: viewOf(services, userOf(request), vmOf(services, request, 'any')) }
}

function driveOf({ driveStore }: Services, request: { user: User | undefined; id: string }) {
  return requireAccess(userOf(request), driveStore.get(request.id), 'drive', request.id)
}
