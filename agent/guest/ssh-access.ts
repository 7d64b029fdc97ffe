/** SSH */
import type { Transport } from '../../protocol/core/transport.ts'
import type { User } from './users.ts'
export class SshAccess {
  authorised(): boolean {
    return false
  }
  async authorise(_u: User, _k: string, _v: number): Promise<string[]> {
    return []
  }
  async serve(_t: Transport): Promise<void> {}
}
