/** Node as the library's host. */
import { wallClock } from '../host/clock.ts'
import type { Host } from '../host/host.ts'
import { suite } from './suite.ts'
import { openSocket } from './websocket.ts'

export const nodeHost: Host = { suite, clock: wallClock, openSocket }
