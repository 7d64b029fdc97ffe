/** `mortar vm confirm`: the owner decides which boot is the VM, when its keys do not prove it. */
import { createInterface } from 'node:readline/promises'
import type { Vm } from '../../protocol/control/api.ts'
import { encodeBase64url } from '../../protocol/core/bytes.ts'
import { MortarError } from '../../protocol/core/errors.ts'
import { standingOf } from '../sessions/connect.ts'
import { explain, matching } from '../vms/boot-words.ts'
import { type Candidate, candidatesOf } from '../vms/boots.ts'
import { confirmBoot } from '../vms/confirm.ts'
import { findVm } from '../vms/vm.ts'
import type { Context } from './context.ts'
import { table, time } from './output.ts'
import type { Action, Arguments, Outcome } from './subcommand.ts'

export const decide: Action = async (context, given) => {
  const [broker, identity, host] = [await context.broker(), await context.identity(), await context.host()]
  const vm = await findVm(broker, given.operand(0))
  if (vm.owner !== broker.user) throw new MortarError('denied', `${vm.name} has another owner`)
  const { kind } = standingOf(identity, host.suite, vm)
  const all = candidatesOf(host.suite, vm)
  const why = explain(vm.name, kind)
  // a boot that waits beside a proven one may be the VM all the same: the owner names it
  if (why === null && given.text('boot') === undefined) return nothingToDecide(vm, all)
  const chosen = await choose(context, given, vm, { why, all, single: kind === 'unproven' })
  await context.progress.during(`confirming ${vm.name}`, confirmBoot({ broker, identity, host }, vm, chosen))
  const { agentSign } = chosen.boot
  return {
    json: { vm: vm.id, confirmed: encodeBase64url(agentSign), words: chosen.words },
    text: `confirmed: ${vm.name} is the boot ${chosen.words}`,
  }
}

function nothingToDecide(vm: Vm, all: readonly Candidate[]): Outcome {
  const others = all.filter(({ current }) => !current)
  const beside = others.length === 0 ? '' : `\nBoots that prove nothing wait beside it:\n${listOf(others)}`
  return {
    json: { vm: vm.id, confirmed: null },
    text: `${vm.name} needs no decision: its boot is proven.${beside}`,
  }
}

function listOf(candidates: readonly Candidate[]): string {
  const rows = candidates.map(({ boot, words, connected, enrolledAt, current }) => [
    words,
    String(boot.generation),
    time(enrolledAt),
    connected ? 'yes' : 'no',
    current ? 'yes' : 'no',
  ])
  return table(['WORDS', 'BOOT', 'ENROLLED', 'CONNECTED', 'CURRENT'], rows)
}

interface Question {
  readonly why: string | null
  readonly all: readonly Candidate[]
  /** one boot proves nothing, and no other one claims to be the VM */
  readonly single: boolean
}

/** Fails with usage when nobody says which. */
async function choose(context: Context, given: Arguments, vm: Vm, { why, all, single }: Question): Promise<Candidate> {
  const named = given.text('boot')
  const waiting = all.filter(({ connected }) => connected)
  if (named !== undefined) return one(all, named)
  const [only] = waiting
  if (given.flag('yes') && single && only && waiting.length === 1) return only
  const shown = `${why}\n\n${listOf(all)}\n`
  if (given.flag('yes') || context.globals.json || !process.stdin.isTTY) {
    const which = given.flag('yes') ? 'more than one boot claims to be it' : 'there is nobody to ask'
    throw new MortarError('usage', `${which}: name the boot of ${vm.name} with --boot "SIX WORDS"\n\n${shown}`)
  }
  process.stderr.write(`${shown}\n`)
  return one(all, await ask(`Type the words of the boot that is ${vm.name}, or nothing: `))
}

function one(all: readonly Candidate[], typed: string): Candidate {
  const [found, ...more] = matching(all, typed)
  if (found && more.length === 0) return found
  throw new MortarError('usage', `no single boot has the words "${typed}"\n\n${listOf(all)}`)
}

async function ask(question: string): Promise<string> {
  const lines = createInterface({ input: process.stdin, output: process.stderr })
  try {
    return await lines.question(question)
  } finally {
    lines.close()
  }
}
