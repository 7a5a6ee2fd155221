// A connection of the official TypeScript SDK: v2 (`legacy`, `auto`, `2026-07-28`) or v1 (`v1`).
import assert from 'node:assert/strict'

export async function connect(mode, command, args) {
    const info = { name: 'typescript-client', version: '1' }
    if (mode === 'v1') {
        const { Client } = await import('@modelcontextprotocol/sdk/client/index.js')
        const { StdioClientTransport } = await import('@modelcontextprotocol/sdk/client/stdio.js')
        const client = new Client(info, { capabilities: {} })
        await client.connect(new StdioClientTransport({ command, args }))
        return client
    }
    const { Client } = await import('@modelcontextprotocol/client')
    const { StdioClientTransport } = await import('@modelcontextprotocol/client/stdio')
    const negotiation = mode.startsWith('20') ? { pin: mode } : mode
    const client = new Client(info, { capabilities: {}, versionNegotiation: { mode: negotiation } })
    await client.connect(new StdioClientTransport({ command, args }))
    assert.equal(client.getProtocolEra(), mode === 'legacy' ? 'legacy' : 'modern')
    return client
}
