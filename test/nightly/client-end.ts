/**
 * A client of the nightly run, in a process of its own that may be killed: for each line of stdin runs a program in the VM whose
 * output is numbered, and says in a line of JSON whether all of it came, once each, in order, with the exit status.
 */
import { createInterface } from 'node:readline'
import { BrokerApi, pinsInMemory } from '../../client/broker/api.ts'
import { Identity } from '../../client/identity/identity.ts'
import { nodeHost } from '../../client/node/host.ts'
import { runProgram } from '../../client/programs/exec.ts'
import { connectVm } from '../../client/sessions/connect.ts'
import { openLasting } from '../../client/sessions/lasting-session.ts'
import { asMortarError } from '../../protocol/core/errors.ts'
import type { ClientSession } from '../../protocol/session.ts'
import type { Order, Report } from './kill-report.ts'

const [url = '', seed = '', vmId = ''] = process.argv.slice(2)
const identity = Identity.fromSeed(nodeHost.suite, Buffer.from(seed, 'hex'))
/** ms between two tries: the broker takes a few logins a second from one address */
const RETRY_MS = 500
const soon = (ms: number) => new Promise(resolve => setTimeout(resolve, ms))

const api = new BrokerApi({ url, identity, pins: pinsInMemory() })

async function connect(): Promise<ClientSession> {
  return (await connectVm(api, identity, nodeHost, await api.vm(vmId))).session
}

/** Tries again until a session opens: who is killed may be away. */
async function lasting(): Promise<ClientSession> {
  for (;;) {
    try {
      return await openLasting({ host: nodeHost, connect })
    } catch (thrown) {
      console.error(`connecting: ${(thrown as Error).message}`)
      await soon(RETRY_MS)
    }
  }
}

/** Prints its tag, then numbered lines on both streams in turn, then exits with the status that it was told. */
const PROGRAM = `
$| = 1; select STDERR; $| = 1; select STDOUT;
my ($lines, $ms, $code, $tag) = @ARGV;
print STDOUT "$tag\\n";
for my $i (0..$lines-1) { my $o = $i % 2 ? *STDERR : *STDOUT; print $o "$i\\n"; select undef, undef, undef, $ms / 1000 }
exit $code;
`

async function run({ lines, everyMs, code, tag }: Order): Promise<Report> {
  const output = { stdout: '', stderr: '' }
  let told = false
  const session = await lasting()
  const argv = ['perl', '-e', PROGRAM, `${lines}`, `${everyMs}`, `${code}`, tag]
  try {
    const exit = await runProgram(
      session,
      { argv },
      {
        onOutput(bytes, from) {
          output[from] += Buffer.from(bytes).toString()
          if (told || !output.stdout.includes('\n')) return
          told = true
          say({ kind: 'began' })
        },
      },
    )
    const numbers = Array.from({ length: lines }, (_, i) => i)
    const expected = (odd: number) =>
      numbers
        .filter(i => i % 2 === odd)
        .map(i => `${i}\n`)
        .join('')
    const whole = output.stdout === `${tag}\n${expected(0)}` && output.stderr === expected(1)
    const right = whole && exit.code === code && exit.signal === null
    return right ? { kind: 'whole' } : { kind: 'wrong', why: JSON.stringify({ exit, ...output }).slice(0, 2_000) }
  } catch (thrown) {
    return { kind: 'failed', code: asMortarError(thrown).code }
  } finally {
    session.close()
  }
}

const say = (report: Report) => process.stdout.write(`${JSON.stringify(report)}\n`)

async function main(): Promise<void> {
  for await (const line of createInterface({ input: process.stdin })) say(await run(JSON.parse(line)))
  process.exit(0)
}

void main()
