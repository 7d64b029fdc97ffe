/**
 * The broker's HTTP API: what is sent and answered, by route. JSON, but for a launch, whose body is CBOR because it
 * carries the launch secret as bytes. SPEC §3.3
 */
import type { z } from 'zod'
import { LIMITS } from '../core/limits.ts'
import { base64urlOf, bytes, bytesUpTo, name, object, text, uint, uuid, z as zod } from '../core/schema.ts'

const isoTime = text(40)

export const VM_STATES = [
  'defined',
  'booting',
  'enrolled',
  'ready',
  'stopping',
  'stopped',
  'failed',
  'destroyed',
] as const
export type VmState = (typeof VM_STATES)[number]

/** GET /v1/broker, without login */
export const brokerInfo = object({
  id: base64urlOf(32),
  version: text(64),
  /** the launcher's X25519 key, signed by the broker's: launch secrets are sealed to it (SPEC §2.6) */
  launcher: object({ key: base64urlOf(32), signature: base64urlOf(64) }),
  acceleration: zod.enum(['kvm', 'tcg', 'unknown']),
  accelerationReason: text(400),
  /** what becomes of the memory of VMs on the host: whether it is locked, and what swap there is */
  hostMemory: object({ locked: zod.boolean(), swap: zod.enum(['none', 'encrypted', 'clear']) }),
  /** the jump host: its port and its host key as an OpenSSH public key line; null when there is none */
  ssh: object({ port: uint(65_535), hostKey: text(800) }).nullable(),
})
/** POST /v1/login/challenge */
export const challengeRequest = object({ user: base64urlOf(32) })
export const challengeAnswer = object({ nonce: base64urlOf(32), brokerProof: base64urlOf(64) })
/** POST /v1/login */
export const loginRequest = object({ user: base64urlOf(32), nonce: base64urlOf(32), signature: base64urlOf(64) })
export const loginAnswer = object({ token: text(64), expiresAt: isoTime, role: zod.enum(['user', 'administrator']) })

/** GET /v1/bricks -> { bricks }, POST /v1/bricks (administrator) */
export const brick = object({
  name,
  version: text(64),
  sha256: text(64),
  sizeBytes: uint(),
  virtualSizeBytes: uint(),
  agentVersion: text(64),
  builder: text(64),
  importedAt: isoTime,
})
export const brickImport = object({ imagePath: text(1024), manifestPath: text(1024) })

const grantText = zod.string().max(2 * LIMITS.grantBytes)

export const vmEvent = object({ at: isoTime, state: zod.enum(VM_STATES), cause: text(200) })
/** a signed boot statement (SPEC §2.8), base64url */
const bootStatement = zod.string().max(LIMITS.bootStatementCharacters)
/** GET /v1/vms -> { vms }, GET /v1/vms/{id}?after={revision}&timeoutMs= answers when the revision is another */
export const vm = object({
  id: uuid,
  name,
  state: zod.enum(VM_STATES),
  revision: uint(),
  /** owner's Ed25519 key */
  owner: base64urlOf(32),
  brick: name,
  brickSha256: text(64),
  launch: uuid,
  createdAt: isoTime,
  memoryMiB: uint(),
  vcpus: uint(),
  /** set while failed: the stage reached and the last lines of the console */
  failure: object({ stage: text(40), reason: text(400), consoleTail: zod.string().max(16_384) }).nullable(),
  /** what enrolment reported; null before it */
  agent: object({
    generation: uint(),
    agentDh: base64urlOf(32),
    agentSign: base64urlOf(32),
    addresses: zod.array(text(64)).max(LIMITS.addresses),
    version: text(64),
    connected: zod.boolean(),
    enrolledAt: isoTime,
  }).nullable(),
  /** the owner's last certificate; null before first contact. Whether it is of this boot its reader checks */
  certificate: zod.string().max(8192).nullable(),
  /** the one before it, of the boot that the certified one follows; null when there is none, or the owner decided anew */
  formerCertificate: zod.string().max(8192).nullable(),
  /** statements of the boots from the one after that of `formerCertificate`, or the first, to the one of `agent` */
  boots: zod.array(bootStatement).max(LIMITS.bootChain),
  /** boots that enrolled and that the owner has to decide about */
  waiting: zod
    .array(
      object({
        statement: bootStatement,
        /** of boots before it that no broker had seen, oldest first */
        line: zod.array(bootStatement).max(LIMITS.bootLine),
        addresses: zod.array(text(64)).max(LIMITS.addresses),
        version: text(64),
        connected: zod.boolean(),
        enrolledAt: isoTime,
        /** by the agent that still runs: over this statement, or by this one over the statement that came after it */
        protest: base64urlOf(64).nullable(),
      }),
    )
    .max(LIMITS.waitingBoots),
  drives: zod.array(uuid).max(64),
  /** signed grants, base64url: all for the owner and administrators, for others their own */
  grants: zod.array(grantText).max(LIMITS.grantItems),
  events: zod.array(vmEvent).max(200),
})
export type Vm = z.output<typeof vm>

/** POST /v1/vms, application/cbor: { options, ticket, sealedSecret } */
export const launchOptions = object({
  name,
  brick: name,
  memoryMiB: uint(1_048_576).min(256),
  vcpus: uint(256).min(1),
})
export const launchRequest = object({
  options: launchOptions,
  ticket: bytesUpTo(LIMITS.signedBytes),
  /** the launch secret, sealed to the launcher (SPEC §2.6) */
  sealedSecret: bytes(80),
})
/** POST /v1/vms/{id}/sessions */
export const sessionRequest = object({
  kind: zod.enum(['channel', 'ssh']),
  /** the boot that is meant, by its Ed25519 key: the owner's alone to choose. The current one unless given */
  agent: base64urlOf(32).optional(),
})
export const sessionAnswer = object({ session: uuid, token: base64urlOf(32) })
/** PUT /v1/vms/{id}/certificate */
export const certificateRequest = object({ certificate: zod.string().max(8192) })
/** PUT /v1/vms/{id}/grants */
export const grantRequest = object({ grant: grantText })
/** GET /v1/vms/{id}/log -> { console } */
export const vmLog = object({ console: zod.string() })

/** GET /v1/drives -> { drives }, POST /v1/drives */
export const drive = object({
  id: uuid,
  name,
  sizeBytes: uint(),
  owner: base64urlOf(32),
  /** opaque to the broker: what the owner's client keeps beside the drive, authenticated by it */
  note: zod.string().max(2048),
  attachedTo: uuid.nullable(),
  /** virtio serial, by which the guest finds the device */
  serial: text(20),
  createdAt: isoTime,
})
export type Drive = z.output<typeof drive>
export const driveCreate = object({
  id: uuid,
  name,
  sizeBytes: uint(2 ** 44).min(2 ** 24),
  note: zod.string().max(2048),
})
/** PUT /v1/drives/{id}/note, POST /v1/drives/{id}/attach | detach, DELETE /v1/drives/{id} */
export const driveNote = object({ note: zod.string().max(2048) })
export const driveAttach = object({ vm: uuid })

/** GET /v1/ssh-keys -> { keys }: those that may log in at the jump host as this user */
export const sshKey = object({
  /** SHA-256 of the key, base64url */
  id: base64urlOf(32),
  type: text(64),
  /** as OpenSSH prints it */
  fingerprint: text(64),
  /** the comment of the line it came in */
  name: text(64),
  addedAt: isoTime,
})
export type SshKey = z.output<typeof sshKey>
/** POST /v1/ssh-keys -> { key }: an OpenSSH public key line. DELETE /v1/ssh-keys/{id} */
export const sshKeyRequest = object({ publicKey: text(800) })

/** every failed answer */
export const failure = object({
  error: object({ code: text(64), says: text(400), detail: text(2000), todo: text(400), request: text(40) }),
})

/** The routes: method, path, who may call. One row each; the broker's table of handlers has the same keys. */
export const ROUTES = {
  'broker.show': { method: 'GET', path: '/v1/broker', access: 'anyone' },
  'login.challenge': { method: 'POST', path: '/v1/login/challenge', access: 'anyone' },
  'login.answer': { method: 'POST', path: '/v1/login', access: 'anyone' },
  'brick.list': { method: 'GET', path: '/v1/bricks', access: 'user' },
  'brick.import': { method: 'POST', path: '/v1/bricks', access: 'administrator' },
  'brick.delete': { method: 'DELETE', path: '/v1/bricks/:id', access: 'administrator' },
  'vm.list': { method: 'GET', path: '/v1/vms', access: 'user' },
  'vm.create': { method: 'POST', path: '/v1/vms', access: 'user' },
  'vm.show': { method: 'GET', path: '/v1/vms/:id', access: 'user' },
  'vm.stop': { method: 'POST', path: '/v1/vms/:id/stop', access: 'user' },
  'vm.delete': { method: 'DELETE', path: '/v1/vms/:id', access: 'user' },
  'vm.log': { method: 'GET', path: '/v1/vms/:id/log', access: 'user' },
  'vm.certify': { method: 'PUT', path: '/v1/vms/:id/certificate', access: 'user' },
  'vm.grant': { method: 'PUT', path: '/v1/vms/:id/grants', access: 'user' },
  'vm.ungrant': { method: 'DELETE', path: '/v1/vms/:id/grants/:grantee', access: 'user' },
  'vm.session': { method: 'POST', path: '/v1/vms/:id/sessions', access: 'user' },
  'drive.list': { method: 'GET', path: '/v1/drives', access: 'user' },
  'drive.create': { method: 'POST', path: '/v1/drives', access: 'user' },
  'drive.note': { method: 'PUT', path: '/v1/drives/:id/note', access: 'user' },
  'drive.attach': { method: 'POST', path: '/v1/drives/:id/attach', access: 'user' },
  'drive.detach': { method: 'POST', path: '/v1/drives/:id/detach', access: 'user' },
  'drive.delete': { method: 'DELETE', path: '/v1/drives/:id', access: 'user' },
  'ssh.list': { method: 'GET', path: '/v1/ssh-keys', access: 'user' },
  'ssh.key': { method: 'POST', path: '/v1/ssh-keys', access: 'user' },
  'ssh.remove': { method: 'DELETE', path: '/v1/ssh-keys/:id', access: 'user' },
} as const
export type RouteName = keyof typeof ROUTES

// kept apart because the agent needs them without all the shapes above
export { AGENT_PATH, JOIN_PATH, JOIN_PROTOCOL, JOIN_TOKEN_PREFIX } from './sockets.ts'
