/** The runners of this guest: one for each person and account, started when first needed, found again by the next agent. */
import { rmSync } from 'node:fs'
import { encodeBase64url } from '../../protocol/core/bytes.ts'
import { asMortarError, MortarError } from '../../protocol/core/errors.ts'
import { LIMITS } from '../../protocol/core/limits.ts'
import { sleep } from '../process/clock.ts'
import type { Log } from '../process/log.ts'
import type { Launcher } from './launcher.ts'
import { nameOf, type Place, type PlaceBook, personOf } from './place.ts'
import {
  type Keeping,
  loginEnvironment,
  type Program,
  type Runner,
  type Running,
  type RunningTerminal,
  type TerminalSize,
} from './runner.ts'
import { type LeftProgram, RunnerLink } from './runner-link.ts'
import type { RunnerProgram } from './runner-program.ts'
import { asStreams, asTerminal } from './runner-streams.ts'
import { DEFAULT_PATH, type ToolResult } from './tool.ts'
import type { User } from './users.ts'

/** bytes of output that a program may be ahead of a client who does not keep its call */
const AHEAD_BYTES = 524_288

export interface RunnersOptions {
  readonly places: PlaceBook
  readonly launcher: Launcher
  readonly log: Log
  /** Runs a system tool as root outside the agent's sandbox. */
  asRoot(argv: readonly string[]): Promise<ToolResult>
}

export class Runners implements Runner {
  readonly #options: RunnersOptions
  /** by name of the place */
  readonly #links = new Map<string, Promise<RunnerLink>>()
  /** by person: what has to be over before anything new of theirs is started */
  readonly #ending = new Map<string, Promise<void>>()

  constructor(options: RunnersOptions) {
    this.#options = options
  }

  async start(program: Program, how: { size?: TerminalSize; keep?: Keeping } = {}): Promise<RunnerProgram> {
    const { argv, user, grantee, cwd, env } = program
    const { keep, size } = how
    const link = await this.#live({ grantee, user })
    return link.start({
      argv,
      env: { ...loginEnvironment(user, DEFAULT_PATH), ...env },
      cwd: cwd ?? null,
      home: user.home,
      size: size ?? null,
      memo: keep ? encodeBase64url(keep.memo) : null,
      whenFull: keep?.whenFull ?? 'wait',
      spoolBytes: keep ? LIMITS.spoolBytes : AHEAD_BYTES,
      detached: keep?.detached ?? false,
    })
  }

  async run(program: Program): Promise<Running> {
    return asStreams(await this.start(program))
  }

  async terminal(program: Program, size: TerminalSize): Promise<RunningTerminal> {
    return asTerminal(await this.start(program, { size }))
  }

  asRoot(argv: readonly string[]): Promise<ToolResult> {
    return this.#options.asRoot(argv)
  }

  async prepare(grantee: string | null, user: User): Promise<void> {
    await this.#link({ grantee, user }).catch(() => undefined)
  }

  end(grantee: string): Promise<void> {
    const person = personOf(grantee)
    const before = this.#ending.get(person) ?? Promise.resolve()
    const ending = before.catch(() => undefined).then(() => this.#end(person))
    this.#ending.set(person, ending)
    const forget = () => this.#ending.get(person) === ending && this.#ending.delete(person)
    ending.then(forget, forget)
    return ending
  }

  async #end(person: string): Promise<void> {
    const { places, launcher } = this.#options
    for (const place of places.of(person)) {
      const name = nameOf(place)
      // one that is just being started ends with the others
      void this.#links.get(name)?.then(
        link => link.close(),
        () => undefined,
      )
      this.#links.delete(name)
    }
    await launcher.endPerson(person)
    places.forget(person)
  }

  /**
   * What earlier agents left: each runner's programs are handed to `take`. The result resolves for a person once all of theirs
   * are, and never fails: a runner that hangs holds up nobody else.
   */
  restore(take: (place: Place, left: LeftProgram) => void): (grantee: string | null) => Promise<unknown> {
    const { places, launcher, log } = this.#options
    const all = places.all()
    const restoring = all.map(async place => {
      if (!launcher.runs(place)) return
      try {
        const link = await this.#link(place)
        for (const left of link.takeLeft()) take(place, left)
      } catch (thrown) {
        log('runner.lost', { code: asMortarError(thrown).code })
      }
    })
    return grantee => Promise.all(restoring.filter((_, i) => all[i]?.grantee === grantee))
  }

  /** Ends nothing: what is kept waits for the next agent. */
  async close(): Promise<void> {
    const links = await Promise.allSettled(this.#links.values())
    for (const link of links) if (link.status === 'fulfilled') link.value.close()
  }

  /** One that was not lost in this moment. */
  async #live(place: Place): Promise<RunnerLink> {
    for (;;) {
      const link = await this.#link(place)
      if (!link.isLost) return link
      // what is left of it ends first
      await sleep(20)
    }
  }

  async #link(place: Place): Promise<RunnerLink> {
    const person = personOf(place.grantee)
    for (let ending = this.#ending.get(person); ending; ending = this.#ending.get(person)) await ending
    const name = nameOf(place)
    const known = this.#links.get(name)
    if (known) return known
    const opening = this.#open(place)
    this.#links.set(name, opening)
    const forget = () => this.#links.get(name) === opening && this.#links.delete(name)
    opening.then(
      link => link.lost.then(error => this.#clean(place, link, error)).then(forget, forget),
      () => forget(),
    )
    return opening
  }

  async #open(place: Place): Promise<RunnerLink> {
    const { places, launcher } = this.#options
    places.write(place)
    try {
      return await this.#connect(place)
    } catch {
      // it hangs, lies or is gone without its socket: once more, from nothing
      await launcher.kill(place)
      rmSync(places.socketOf(place), { force: true })
      return this.#connect(place)
    }
  }

  async #connect(place: Place): Promise<RunnerLink> {
    const { launcher } = this.#options
    const link = await RunnerLink.open(await launcher.start(place))
    if (launcher.runs(place)) return link
    link.close()
    // what runs elsewhere could not be ended with its person
    throw new MortarError('internal', 'a runner is not where it was put')
  }

  /** A runner that is lost is ended with its programs, whatever it is up to. */
  async #clean(place: Place, link: RunnerLink, { code }: MortarError): Promise<void> {
    if (link.wasClosed) return
    const { launcher, log } = this.#options
    log('runner.lost', { code })
    await launcher.kill(place)
  }
}
