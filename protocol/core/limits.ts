/** Every number of the wire, with its unit and its section of SPEC.md. Enforced on receipt; none is configurable. */
export const LIMITS = {
  /** bytes of a WebSocket message on a joined pair: one Noise message (SPEC §4) */
  packetBytes: 65_535,
  /** bytes of plaintext in a record: packet less the authentication tag (SPEC §6.1) */
  recordPlaintextBytes: 65_519,
  /** bytes of each handshake message (SPEC §5) */
  handshakeBytes: 4_096,
  /** bytes of evidence in the second message (SPEC §5) */
  evidenceBytes: 2_048,
  /** ms from the first to the last handshake packet (SPEC §5) */
  handshakeMs: 30_000,
  /** records under one key before the sender's and receiver's keys move on (SPEC §6.2) */
  recordsPerKey: 65_536,
  /** records in each direction of a session, so 2^40 bytes (SPEC §6.1) */
  sessionRecords: 16_777_216,
  /** ms that a session may live before both ends must shake hands again (SPEC §6.1) */
  sessionMs: 24 * 3_600_000,

  /** bytes of a frame header (SPEC §7) */
  frameHeaderBytes: 8,
  /** bytes of the body of OPEN, ACCEPT and MESSAGE frames (SPEC §7) */
  messageBytes: 16_384,
  /** bytes of a secret (SPEC §7.4) */
  secretBytes: 1_024,
  /** secrets that did not serve: of one caller for one drive in a minute, and in one session (SPEC §9.4) */
  secretsPerMinute: 5,
  secretsPerSession: 20,
  /** ms from OPEN to ACCEPT (SPEC §8) */
  acceptMs: 60_000,
  /** ms that an offered key for a secret may be used (SPEC §7.4) */
  offerMs: 60_000,
  /** open streams of one session (SPEC §7) */
  streams: 256,
  /** messages a sender may have unread at the receiver, per stream (SPEC §7.3) */
  windowMessages: 32,
  /** unread messages of one stream (SPEC §7) */
  unreadMessages: 64,
  /** bytes of messages and secrets that a session holds and nobody has read (SPEC §7.2) */
  sessionMessageBytes: 1_048_576,
  /** bytes a sender may have unread at the receiver, per stream: at first, and at most (SPEC §7.3) */
  windowBytes: 32_768,
  mostWindowBytes: 4_194_304,
  /** bytes that all windows of one session and direction may have in all (SPEC §7.3) */
  sessionWindowBytes: 16_777_216,
  /** overruns of windows at which a session ends; the ones before reset their streams (SPEC §7.3) */
  overruns: 3,
  /** bytes that an end keeps of a kept call to send them again: the largest window and what waits for it (SPEC §8.2) */
  spoolBytes: 4_718_592,
  /** ms that a kept call waits for its client (SPEC §8.2) */
  keptMs: 3_600_000,
  /** ms that one which failed waits for a client that may not have heard of it: to notice a dead socket and be back (SPEC §8.2) */
  keptFailedMs: 120_000,
  /** ids of one caller's kept calls that begin none any more: as many as a grantee's sessions can have under way (SPEC §8.2) */
  spentCalls: 2_048,
  /** kept calls of one agent, and of one caller; grantees together may have the difference (SPEC §8.2) */
  keptCalls: 32,
  keptCallsEach: 16,
  /** ms without a packet from the other end before a ping is sent, and then before the session is given up (SPEC §7) */
  pingMs: 20_000,
  silenceMs: 60_000,

  /** items and bytes of an exec's argv (SPEC §9.2) */
  argvItems: 256,
  argvBytes: 12_288,
  /** SSH keys that the owner, and each grantee, may have delivered for one user of the guest (SPEC §9.5) */
  sshKeysEach: 64,
  /** calls of drives that one caller may have under way, in all sessions (SPEC §9.4) */
  driveCalls: 16,
  /** processes that are named when a drive is in use (SPEC §9.4) */
  driveHolders: 32,

  /** seconds a launch ticket may be valid (SPEC §2) */
  ticketSeconds: 900,
  /** arrays and maps within each other in CBOR (SPEC §2) */
  nesting: 8,
  /** bytes of signed objects: ticket, certificate, manifest (SPEC §2) */
  signedBytes: 4_096,
  /** bytes of a signed grant, which travels in a handshake message; drives and targets that it may name (SPEC §2.7) */
  grantBytes: 3_584,
  grantItems: 64,
  /** grantees whose serials an agent remembers (SPEC §2.7) */
  grantees: 1_000,
  /** ms between looks at the clock until the end of a grant: who sets it forward does not prolong one by more (SPEC §2.7) */
  clockStepMs: 60_000,
  /** bytes of one control message between agent and broker (SPEC §3) */
  controlBytes: 8_192,
  /** ms that a join token may be used after it is given out (SPEC §4) */
  joinMs: 30_000,
  /** sessions at one agent, of one grantee, and those of the first that are the owner's alone (SPEC §4) */
  sessions: 32,
  sessionsEach: 8,
  sessionsOwner: 8,
  /** sessions at one agent whose caller has proven nothing yet; beyond it the oldest of them goes (SPEC §4) */
  unprovenSessions: 32,
  /** sessions at a broker, waiting or joined: in all, of one user, of one VM, and of one user but its owner at one VM (SPEC §4) */
  sessionsPerBroker: 4_096,
  sessionsPerUser: 64,
  sessionsPerVm: 64,
  sessionsPerVmEach: 16,
  /** characters of a signed boot statement in base64url (SPEC §2.8) */
  bootStatementCharacters: 1_024,
  /** boots from the one that the owner certified to the one that runs, which a broker keeps and a client follows (SPEC §2.8) */
  bootChain: 32,
  /** boots that an agent shows because no broker answered them: they lie between the last one that was and this one (SPEC §3.2) */
  bootLine: 8,
  /** boots of one VM that wait for the owner's decision at the broker (SPEC §3.2) */
  waitingBoots: 8,
  /** ms in which a boot that still runs protests against one that says it came after (SPEC §3.2) */
  protestMs: 3_000,
  /** ms from a connection to its authentication (SPEC §3) */
  authenticationMs: 5_000,
  /** sockets of one address, or of one VM, that have not authenticated; beyond it the oldest of them goes (SPEC §3) */
  unauthenticatedPerAddress: 20,
  /** connections to the HTTP API on which nobody has shown a login, those with a request under way apart from those without: of one
   * address, and in all (SPEC §3) */
  connectionsPerAddress: 256,
  connectionsUnknown: 512,
  /** connections to the HTTP API whose user is known: of one user, and of all (SPEC §3) */
  connectionsPerUser: 128,
  connectionsOfUsers: 1_024,
  /** bytes of the body of a request without a login, and of any other (SPEC §3.3) */
  strangerBodyBytes: 2_048,
  bodyBytes: 65_536,
  /** ms from the head of a request to the end of its body, when its user is known (SPEC §3.3) */
  bodyMs: 10_000,
  /** requests of one user at the HTTP API: at once, and then per second (SPEC §3.3) */
  requestsAtOnce: 500,
  requestsPerSecond: 50,
  /** requests that wait for a VM to change: of one user, and of all (SPEC §3.3) */
  waitsPerUser: 64,
  waits: 1_024,
  /** SSH keys that one user may have at the jump host (SPEC §3.3) */
  sshKeysPerUser: 32,
  /** connections to the SSH port: of one address that say nothing; of one address that speak SSH, or have agreed on keys; of one address
   * that claim one key; all that say nothing; all at each of the three stages after that (SPEC §3.4) */
  sshSilentPerAddress: 20,
  sshSpeakingPerAddress: 40,
  sshClaimsPerKey: 20,
  sshSilent: 256,
  sshUnknown: 1_024,
  /** addresses from which one user logged in last, where connections count apart from those from elsewhere (SPEC §3.4) */
  sshPlacesPerUser: 16,
  /** connections to the SSH port that have logged in: of one user, and of all (SPEC §3.4) */
  sshPerUser: 32,
  sshConnections: 256,
  /** ms that a connection to the SSH port may be without a channel to a VM (SPEC §3.4) */
  sshIdleMs: 60_000,
  /** addresses an agent may report (SPEC §3) */
  addresses: 16,
} as const
