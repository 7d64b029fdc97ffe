/** Connections to the HTTP API and to the SSH port: each has its share, and who takes too many loses its own. SPEC §3, §3.4 */
import { EventEmitter } from 'node:events'
import { createServer, type IncomingMessage } from 'node:http'
import { Socket } from 'node:net'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { Connections } from '../../broker/http/connections.ts'
import { SshConnections } from '../../broker/ssh/connections.ts'
import { LIMITS } from '../../protocol/core/limits.ts'

/** A socket that comes from an address and goes nowhere. */
function socketFrom(address: string): Socket {
  const socket = new Socket()
  Object.defineProperty(socket, 'remoteAddress', { value: address })
  return socket
}
const many = (count: number, address: (index: number) => string = () => '192.0.2.1') =>
  Array.from({ length: count }, (_, index) => socketFrom(address(index)))
/** many addresses, each another one */
const fromEverywhere = (index: number) => `10.${index >> 16}.${(index >> 8) & 255}.${index & 255}`
const open = (sockets: readonly Socket[]) => sockets.filter(({ destroyed }) => !destroyed).length

describe('the HTTP API', () => {
  const server = createServer()
  let connections: Connections
  const closed = vi.fn()
  beforeEach(() => {
    server.removeAllListeners('connection').removeAllListeners('upgrade')
    connections = new Connections()
    connections.watch(server, closed)
  })
  const come = (sockets: readonly Socket[]) => {
    for (const socket of sockets) server.emit('connection', socket)
    return sockets
  }

  test('of one address and of all, those that show no login are bounded: connectionsPerAddress, connectionsUnknown', () => {
    const honest = come(many(1, () => '192.0.2.9'))
    const flood = come(many(LIMITS.connectionsPerAddress + 10))
    expect([open(honest), open(flood)]).toEqual([1, LIMITS.connectionsPerAddress])
    expect(flood.slice(0, 10).every(({ destroyed }) => destroyed)).toBe(true)
    const others = come(many(2 * LIMITS.connectionsUnknown, index => `198.51.100.${index % 200}`))
    expect(open(honest) + open(flood) + open(others)).toBe(LIMITS.connectionsUnknown)
    expect(open(honest)).toBe(1)
  })

  test('a request that is being answered is not pushed out by silent newcomers, each from an address of its own', () => {
    const requests = come(many(3, index => `192.0.2.${index}`)).map(socket => {
      const answer = Object.assign(new EventEmitter(), { socket })
      connections.oneByOne(() => undefined)({ socket, complete: true } as IncomingMessage, answer as never)
      return { socket, answer }
    })
    const all = () => open(requests.map(({ socket }) => socket))
    const flood = come(many(2 * LIMITS.connectionsUnknown, fromEverywhere))
    expect([all(), open(flood)]).toEqual([3, LIMITS.connectionsUnknown])
    // once it is answered it says nothing either
    for (const { answer } of requests) answer.emit('close')
    come(many(2 * LIMITS.connectionsUnknown, index => fromEverywhere(5_000 + index)))
    expect(all()).toBe(0)
  })

  test('those of one IPv6 network count as of one address', () => {
    const honest = come(many(1, () => '2001:db8:0:1::5'))
    const flood = come(many(LIMITS.connectionsPerAddress + 5, index => `2001:db8::${(index + 1).toString(16)}`))
    expect([open(honest), open(flood)]).toEqual([1, LIMITS.connectionsPerAddress])
  })

  test('of one user and of all users they are bounded: connectionsPerUser, connectionsOfUsers', () => {
    const prove = (sockets: readonly Socket[], user: string) => {
      for (const socket of come(sockets)) connections.prove(socket, user)
      return sockets
    }
    const honest = prove(many(1), 'honest')
    const greedy = prove(many(LIMITS.connectionsPerUser + 1), 'greedy')
    expect([open(greedy), greedy[0]?.destroyed]).toEqual([LIMITS.connectionsPerUser, true])
    const groups = Array.from({ length: 12 }, (_, index) => prove(many(LIMITS.connectionsPerUser), `user ${index}`))
    expect(groups.reduce((sum, sockets) => sum + open(sockets), open(greedy) + open(honest))).toBe(
      LIMITS.connectionsOfUsers,
    )
    expect(open(honest)).toBe(1)
  })

  test('one that became a WebSocket, or ended, counts no more', async () => {
    const sockets = come(many(LIMITS.connectionsPerAddress))
    for (const socket of sockets.slice(0, 100)) server.emit('upgrade', { socket })
    await Promise.all(
      sockets.slice(100).map(socket => {
        const ended = new Promise(resolve => socket.once('close', resolve))
        socket.destroy()
        return ended
      }),
    )
    expect(closed).toHaveBeenCalled()
    expect(open(come(many(LIMITS.connectionsPerAddress)))).toBe(LIMITS.connectionsPerAddress)
    expect(open(sockets)).toBe(100)
  })
})

describe('the SSH port', () => {
  let connections: SshConnections
  beforeEach(() => {
    vi.useFakeTimers()
    connections = new SshConnections()
  })
  afterEach(() => void vi.useRealTimers())
  const come = (sockets: readonly Socket[], then: (socket: Socket) => void = () => undefined) => {
    for (const socket of sockets) {
      connections.open(socket)
      then(socket)
    }
    return sockets
  }
  const logIn = (sockets: readonly Socket[], user: string, key = `key of ${user}`) =>
    come(sockets, socket => connections.logIn(socket, key, [user]))

  test('who comes further is not pushed out by who does not: sshSilentPerAddress, sshSpeakingPerAddress, sshClaimsPerKey', () => {
    const silent = come(many(1))
    const speaking = come(many(1), socket => connections.advance(socket, 'speaking'))
    const encrypted = come(many(1), socket => connections.advance(socket, 'encrypted'))
    const claiming = come(many(1), socket => connections.claim(socket, 'key'))
    const flood = come(many(LIMITS.sshSilentPerAddress))
    expect([silent, speaking, encrypted, claiming].map(open)).toEqual([0, 1, 1, 1])
    come(many(LIMITS.sshSpeakingPerAddress), socket => connections.advance(socket, 'speaking'))
    expect([speaking, encrypted, claiming].map(open)).toEqual([0, 1, 1])
    come(many(LIMITS.sshClaimsPerKey), socket => connections.claim(socket, 'another key'))
    expect(open(claiming)).toBe(1)
    come(many(LIMITS.sshClaimsPerKey), socket => connections.claim(socket, 'key'))
    expect(open(claiming)).toBe(0)
    expect(open(flood)).toBeLessThanOrEqual(LIMITS.sshSilentPerAddress)
  })

  const STAGES = {
    silent: () => undefined,
    speaking: (socket: Socket) => connections.advance(socket, 'speaking'),
    encrypted: (socket: Socket) => connections.advance(socket, 'encrypted'),
    claiming: (socket: Socket) => connections.claim(socket, 'key'),
  }
  const stages = Object.keys(STAGES) as (keyof typeof STAGES)[]
  const mostAt = (stage: keyof typeof STAGES) => (stage === 'silent' ? LIMITS.sshSilent : LIMITS.sshUnknown)
  const oneAtEach = (address: string) =>
    stages.map(stage =>
      come(
        many(1, () => address),
        STAGES[stage],
      ),
    )

  test.each(stages)(
    'as many as come from an address of their own each and go no further than %s push out nobody at another stage: sshSilent, sshUnknown',
    stage => {
      const honest = oneAtEach('192.0.2.9')
      const flood = come(many(3 * mostAt(stage), fromEverywhere), STAGES[stage])
      expect(open(flood)).toBe(mostAt(stage))
      expect(honest.map(open)).toEqual(stages.map(each => (each === stage ? 0 : 1)))
    },
  )

  test('at one stage the address with the most loses its oldest', () => {
    const honest = come(many(1, () => '192.0.2.9'))
    const flood = come(many(3 * LIMITS.sshSilent, index => `198.51.100.${index % 40}`))
    expect([open(honest), open(flood)]).toEqual([1, LIMITS.sshSilent - 1])
  })

  test('those of one IPv6 network count as of one address', () => {
    const honest = come(many(1, () => '2001:db8:0:1::5'))
    const flood = come(many(2 * LIMITS.sshSilent, index => `2001:db8::${(index + 1).toString(16)}`))
    expect([open(honest), open(flood)]).toEqual([1, LIMITS.sshSilentPerAddress])
  })

  test('who claims somebody’s key from elsewhere pushes out none of that one’s logins', () => {
    const honest = come(
      many(1, () => '192.0.2.9'),
      STAGES.claiming,
    )
    const flood = come(many(5 * LIMITS.sshClaimsPerKey), STAGES.claiming)
    expect([open(honest), open(flood)]).toEqual([1, LIMITS.sshClaimsPerKey])
  })

  test('where a user logged in from strangers elsewhere cost nothing, at no stage; of the last places alone: sshPlacesPerUser', () => {
    const place = (number: number) => `192.0.2.${number}`
    const places = LIMITS.sshPlacesPerUser + 1
    for (const number of Array(places).keys())
      come(
        many(1, () => place(number)),
        socket => connections.logIn(socket, 'key', ['user']),
      )
    const honest = oneAtEach(place(1))
    const forgotten = oneAtEach(place(0))
    for (const stage of stages) come(many(3 * mostAt(stage), fromEverywhere), STAGES[stage])
    expect([honest.map(open), forgotten.map(open)]).toEqual([
      [1, 1, 1, 1],
      [0, 0, 0, 0],
    ])
  })

  test('of one user and of all users they are bounded: sshPerUser, sshConnections', () => {
    const honest = logIn(many(1), 'honest')
    const greedy = logIn(many(LIMITS.sshPerUser + 3), 'greedy')
    expect(open(greedy)).toBe(LIMITS.sshPerUser)
    const groups = Array.from({ length: 10 }, (_, index) => logIn(many(LIMITS.sshPerUser), `user ${index}`))
    expect(groups.reduce((sum, sockets) => sum + open(sockets), open(greedy) + open(honest))).toBe(
      LIMITS.sshConnections,
    )
    expect(open(honest)).toBe(1)
  })

  test('a key that several users named counts by itself, so that nobody is charged for another’s', () => {
    const honest = logIn(many(LIMITS.sshPerUser), 'honest')
    come(many(LIMITS.sshPerUser), socket => connections.logIn(socket, 'shared', ['honest', 'other']))
    expect(open(honest)).toBe(LIMITS.sshPerUser)
  })

  test('one without a channel ends after a while, and one with a channel does not: sshIdleMs', () => {
    const [idle, busy] = logIn(many(2), 'user') as [Socket, Socket]
    const end = connections.openChannel(busy)
    vi.advanceTimersByTime(LIMITS.sshIdleMs)
    expect([idle.destroyed, busy.destroyed]).toEqual([true, false])
    end()
    vi.advanceTimersByTime(LIMITS.sshIdleMs)
    expect(busy.destroyed).toBe(true)
  })

  test('a key that was removed ends what it logged in, and nothing else', () => {
    const [mine, theirs] = [logIn(many(2), 'user', 'removed'), logIn(many(2), 'user', 'kept')]
    connections.drop('removed')
    expect([open(mine), open(theirs)]).toEqual([0, 2])
  })
})
