/**
 * ssh: exchanges keys for stock OpenSSH through the broker's pass-through: the guest's host keys out, the user's key in.
 * The bytes of SSH itself travel in a joined pair of kind ssh and need no second encryption. SPEC §9.5
 */
import { object, text, uint, z } from '../core/schema.ts'
import { defineCommand } from './command.ts'

export const sshPublicKey = z
  .string()
  .max(800)
  .regex(
    /^(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(256|384|521)|sk-ssh-ed25519@openssh\.com) [A-Za-z0-9+/]+={0,2}$/,
    'needs an OpenSSH public key without comment',
  )

export const ssh = defineCommand({
  name: 'ssh',
  permission: 'ssh',
  params: object({
    userKey: sshPublicKey,
    /** seconds that the key may log in */
    validSeconds: uint(12 * 3600).min(60),
  }),
  names: {},
  /** host keys of the caller's own sshd, and the caller's account, which the key may log in as */
  ready: object({ hostKeys: z.array(text(800)).min(1).max(4), user: text(32) }),
  toAgent: {},
  toClient: {},
  takesSecret: false,
})
