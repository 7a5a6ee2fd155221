// Drives a server with the official TypeScript SDK: v2 (`legacy`, `auto`, `2026-07-28`) or v1 (`v1`).
//   node typescript.mjs MODE BINARY [ARGS…]      exits 0 when all held
import assert from 'node:assert/strict'
import { connect } from './connect.mjs'

const [mode, command, ...args] = process.argv.slice(2)

const call = (client, code, more = {}, options = {}) => {
    const request = { name: 'run_code', arguments: { code, ...more } }
    return mode === 'v1' ? client.callTool(request, undefined, options) : client.callTool(request, options)
}
const part = (result, name) =>
    result.content.filter(b => b._meta['cellblock/part'] === name).map(b => b.text).join('')

const client = await connect(mode, command, args)
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
