/** The rings of tests, from fast to real (test/README.md says what each proves). */
import { defineConfig } from 'vitest/config'

/** how long a test waits for what should be there at once: limits against hanging, not claims of speed */
const patient = { testTimeout: 60_000, hookTimeout: 60_000, expect: { poll: { timeout: 20_000 } } }

const ring = (name: string, include: string[], options: object = {}) => ({
  test: { name, include: include.map(folder => `test/${folder}/**/*.test.ts`), ...patient, ...options },
})

/** real programs, one at a time: two cores boot one VM well and two VMs badly */
const real = { fileParallelism: false, testTimeout: 120_000, hookTimeout: 300_000 }

const projects = [
  ring('unit', ['protocol', 'agent', 'broker', 'client', 'images']),
  ring('rules', ['rules']),
  ring('contracts', ['contracts'], real),
  ring('processes', ['processes'], real),
  ring('browser', ['browser'], real),
  ring('guest', ['guest'], { ...real, testTimeout: 300_000, hookTimeout: 900_000 }),
  ring('attacks', ['attacks'], { ...real, testTimeout: 300_000, hookTimeout: 900_000 }),
]

/** names of the rings, from fast to real */
export const RINGS = projects.map(({ test }) => test.name)

export default defineConfig({ test: { projects } })
