// Tells the story of tests/protocol/clients/story.json (see story.py beside it) with the official TypeScript SDK.
//   node story.mjs MODE STORY HOST WHEEL BINARY [ARGS…]      prints {listed, called}; exits 0 when all held
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { connect } from './connect.mjs'

const POLLS = 40
const [mode, story, host, wheel, command, ...args] = process.argv.slice(2)
const client = await connect(mode, command, args)
const known = { host, wheel }
const called = new Set()

const filled = step =>
    JSON.parse(Object.entries(known).reduce((text, [name, found]) => text.replaceAll(`$${name}`, found), JSON.stringify(step)))

async function call(step) {
    const result = await client.callTool({ name: step.tool, arguments: step.arguments ?? {} })
    const text = result.content.map(b => b.text ?? b.name ?? '').join('\n')
    known.session = result._meta?.['cellblock/session'] ?? known.session
    known.run = result._meta?.['cellblock/run']?.run ?? known.run
    assert.equal(result.isError ?? false, step.refused ?? false, `${JSON.stringify(step)}: ${text}`)
    assert.match(text, new RegExp(step.says ?? ''), JSON.stringify(step))
    return [text, result]
}

async function poll(step) {
    let text = ''
    for (let n = 0; n < POLLS; n++) {
        const [more, result] = await call(step)
        text += more
        if (new RegExp(step.until).test(text)) return
        step.arguments.cursor = result._meta['cellblock/run'].cursor
    }
    assert.fail(`${JSON.stringify(step)}: ${text}`)
}

async function read(step) {
    let page = await client.listResources()
    const found = [...page.resources]
    while (page.nextCursor) {
        page = await client.listResources({ cursor: page.nextCursor })
        found.push(...page.resources)
    }
    const { uri } = found.find(one => one.name === step.resource)
    const { contents } = await client.readResource({ uri })
    assert.equal(contents.length, 1)
    assert.match(contents[0].text, new RegExp(step.says))
}

for (const step of JSON.parse(readFileSync(story))) {
    const now = filled(step)
    if (now.resource) {
        await read(now)
        continue
    }
    called.add(now.tool)
    await (now.until ? poll(now) : call(now))
}
const { tools } = await client.listTools()
console.log(JSON.stringify({ listed: tools.map(t => t.name), called: [...called] }))
await client.close()
