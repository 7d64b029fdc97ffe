/** Where the agent's configuration is, apart from its parser: --help names it and reads nothing. */
export const CONFIG_PATH = '/etc/mortar/agent.toml'
