/** `mortar brick`: lists, imports and deletes the templates that VMs start from. */
import { resolve } from 'node:path'
import type { Brick } from '../broker/api.ts'
import { size, table, time } from './output.ts'
import type { Action } from './subcommand.ts'

const HEADING = ['NAME', 'VERSION', 'SIZE', 'DISK', 'AGENT', 'IMPORTED', 'SHA-256']

const row = (brick: Brick) => [
  brick.name,
  brick.version,
  size(brick.sizeBytes),
  size(brick.virtualSizeBytes),
  brick.agentVersion,
  time(brick.importedAt),
  brick.sha256.slice(0, 16),
]

export const list: Action = async context => {
  const bricks = await (await context.broker()).bricks()
  return { json: { bricks }, text: table(HEADING, bricks.map(row)) }
}

export const importImage: Action = async (context, given) => {
  const image = resolve(given.operand(0))
  const manifest = resolve(given.text('manifest') ?? image.replace(/\.(qcow2|img)$/, '').concat('.json'))
  const broker = await context.broker()
  const brick = await context.progress.during(`importing ${image}`, broker.importBrick(image, manifest))
  return {
    json: { brick, word: 'broker' },
    text: `The broker says that it imported:\n\n${table(HEADING, [row(brick)])}`,
  }
}

export const remove: Action = async (context, given) => {
  const name = given.operand(0)
  await (await context.broker()).deleteBrick(name)
  return { json: { deleted: name, word: 'broker' }, text: `The broker says that it deleted ${name}.` }
}
