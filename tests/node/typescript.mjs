// Drives a server with the official TypeScript SDK: v2 (`legacy`, `auto`, `2026-07-28`) or v1 (`v1`).
//   node typescript.mjs MODE BINARY [ARGS…]      exits 0 when all held
import assert from 'node:assert/strict'

const [mode, command, ...args] = process.argv.slice(2)

async function connect() {
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

const call = (client, code, more = {}, options = {}) => {
    const request = { name: 'run_code', arguments: { code, ...more } }
    return mode === 'v1' ? client.callTool(request, undefined, options) : client.callTool(request, options)
}
const part = (result, name) =>
    result.content.filter(b => b._meta['cellblock/part'] === name).map(b => b.text).join('')

const client = await connect()
const { tools } = await client.listTools()
assert.deepEqual(tools.map(t => t.name), ['run_code', 'add_share', 'reset_session'])

const first = await call(client, "x = 6\nprint('hi')\nx * 7")
assert.equal(part(first, 'stdout'), 'hi\n')
assert.equal(part(first, 'result'), '42')
const session = { session: first._meta['cellblock/session'] }
assert.equal(part(await call(client, 'x', session), 'result'), '6')

const failed = await call(client, '1 / 0', session)
assert.equal(failed.isError, true)
assert.match(part(failed, 'error'), /ZeroDivisionError/)
assert.equal((await call(client, 7)).isError, true)
await assert.rejects(client.callTool({ name: 'no_such_tool', arguments: {} }))

const messages = []
await call(client, "import time\nfor n in range(4):\n print('step', n, flush=True)\n time.sleep(.2)", session,
    { onprogress: p => messages.push(p.message ?? '') })
assert.ok(messages.some(m => m.includes('step')), messages.join())

const abort = new AbortController()
setTimeout(() => abort.abort('enough'), 500)
await assert.rejects(call(client, 'while True: pass', session, { signal: abort.signal }))
assert.equal(part(await call(client, 'x', session), 'result'), '6')

await client.close()
