/** WebSocket entries: the agent's control socket, and both ends' data sockets with a join token as subprotocol. SPEC §4 */
export const AGENT_PATH = '/v1/agent'
export const JOIN_PATH = '/v1/join'
export const JOIN_PROTOCOL = 'mortar.join.v1'
/** second subprotocol offered: this and the token */
export const JOIN_TOKEN_PREFIX = 'mortar.token.'
